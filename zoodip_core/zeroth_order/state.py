"""Validation of a search's saved state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zoodip_core.errors import InvalidCheckpointError


def check_state(state: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, max_removed: int) -> None:
    """Validate names, dtypes and shapes of a state against a new one; only P can have more rows.

    Raises:
        InvalidCheckpointError: the state is damaged, or does not match the settings.
    """
    if state.keys() != fresh.keys():
        odd = ", ".join(sorted(state.keys() ^ fresh.keys()))
        raise InvalidCheckpointError(
            f"checkpoint: it does not match the settings: {odd} is missing or unexpected"
        )
    for name, expected in fresh.items():
        given, shape = state[name], tuple(expected.shape)
        if name == "subspace.removed" and given.ndim == 2 and len(given) <= max_removed:
            shape = (len(given), *shape[1:])
        if tuple(given.shape) != shape or given.dtype != expected.dtype:
            raise InvalidCheckpointError(
                f"checkpoint: it does not match the settings: {name} is {given.dtype} {tuple(given.shape)}; "
                f"expected {expected.dtype} {shape}"
            )
        if given.is_floating_point() and not given.isfinite().all():
            raise InvalidCheckpointError(f"checkpoint: it is damaged: {name} is not finite")
    if state["step"] < 0 or (state["adam.second_moment"] < 0).any():
        raise InvalidCheckpointError("checkpoint: it is damaged: a count or a mean square is negative")
