"""Validation of the saved state of a search."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zoodip_core.errors import InvalidCheckpointError


def check_state(state: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, max_removed: int) -> None:
    """Validate a saved state against the state of a new search with the same settings.

    Args:
        state: tensors of the saved state, by name.
        fresh: tensors of a new search. Names, types and shapes must agree; only P may have more rows.
        max_removed: largest number of rows of P.

    Raises:
        InvalidCheckpointError: the state is damaged or belongs to other settings; the message names the tensor.
    """
    if state.keys() != fresh.keys():
        names = ", ".join(sorted(state.keys() ^ fresh.keys()))
        raise InvalidCheckpointError(
            f"The checkpoint does not fit the settings: missing or unexpected tensors: {names}."
        )
    for name, expected in fresh.items():
        given, shape = state[name], tuple(expected.shape)
        if name == "subspace.removed" and given.ndim == 2 and len(given) <= max_removed:
            shape = (len(given), *shape[1:])
        if tuple(given.shape) != shape or given.dtype != expected.dtype:
            raise InvalidCheckpointError(
                f"The checkpoint does not fit the settings: {name}: got {given.dtype} {tuple(given.shape)}; "
                f"expected {expected.dtype} {shape}."
            )
        if given.is_floating_point() and not given.isfinite().all():
            raise InvalidCheckpointError(f"The checkpoint is damaged: {name} holds NaN or infinity.")
    if state["step"] < 0 or (state["adam.second_moment"] < 0).any():
        raise InvalidCheckpointError("The checkpoint is damaged: the step or a second moment is negative.")
