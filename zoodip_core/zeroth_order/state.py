"""Whether a search's saved state is whole and fits the settings it is restored with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from zoodip_core.errors import InvalidCheckpointError


def require_like(fresh: Mapping[str, Tensor], state: Mapping[str, Tensor], *, most_removed: int) -> None:
    """Check a state's names, types and shapes against a fresh one's; only P may have more rows.

    Raises:
        InvalidCheckpointError: says what does not fit.
    """
    if state.keys() != fresh.keys():
        odd = ", ".join(sorted(state.keys() ^ fresh.keys()))
        raise InvalidCheckpointError(
            f"The checkpoint does not fit the settings: {odd} is missing or unexpected."
        )
    for name, expected in fresh.items():
        given, shape = state[name], tuple(expected.shape)
        if name == "subspace.removed" and given.ndim == 2 and len(given) <= most_removed:
            shape = (len(given), *shape[1:])
        if tuple(given.shape) != shape or given.dtype != expected.dtype:
            raise InvalidCheckpointError(
                f"The checkpoint does not fit the settings: {name} is {given.dtype} {tuple(given.shape)}, "
                f"not {expected.dtype} {shape}."
            )
        if given.is_floating_point() and not given.isfinite().all():
            raise InvalidCheckpointError(f"The checkpoint is damaged: {name} is not finite.")
    if state["step"] < 0 or (state["adam.second_moment"] < 0).any():
        raise InvalidCheckpointError("The checkpoint is damaged: a count or a mean square is negative.")
