"""Validation of a search's saved state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.errors import InvalidCheckpointError


def saved_coordinates(state: Mapping[str, Tensor]) -> Float[Tensor, " d"]:
    """Return u of a saved state, on the CPU.

    Raises:
        InvalidCheckpointError: there is none.
    """
    u = state.get("theta")
    if u is None or u.ndim != 1 or u.dtype != torch.float32:
        raise InvalidCheckpointError.mismatch("checkpoint", got="no float32 theta", expected="one")
    return u.cpu()


def check_state(state: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, max_removed: int) -> None:
    """Validate names, dtypes, shapes and values of a saved state.

    Args:
        state: The saved state.
        fresh: State of a new search with the same settings.
        max_removed: Maximum number of rows of P; all other shapes must equal those of `fresh`.

    Raises:
        InvalidCheckpointError: the state is damaged, or does not match the settings.
    """
    if state.keys() != fresh.keys():
        names = ", ".join(sorted(state.keys() ^ fresh.keys()))
        raise InvalidCheckpointError(
            f"checkpoint: it does not match the settings: missing or unexpected tensors: {names}"
        )
    for name, expected in fresh.items():
        saved, shape = state[name], tuple(expected.shape)
        if name == "subspace.removed" and saved.ndim == 2 and len(saved) <= max_removed:
            shape = (len(saved), *shape[1:])
        if tuple(saved.shape) != shape or saved.dtype != expected.dtype:
            raise InvalidCheckpointError(
                f"checkpoint: it does not match the settings: {name} is {saved.dtype} {tuple(saved.shape)}; "
                f"expected {expected.dtype} {shape}"
            )
        if saved.is_floating_point() and not saved.isfinite().all():
            raise InvalidCheckpointError(f"checkpoint: it is damaged: {name} is not finite")
    if state["step"] < 0 or (state["adam.second_moment"] < 0).any():
        raise InvalidCheckpointError("checkpoint: it is damaged: a count or a mean square is negative")


def check_space(state: Mapping[str, Tensor], space: Mapping[str, Tensor]) -> None:
    """Validate that a saved state belongs to a search space.

    Args:
        state: The saved state.
        space: Tensors that identify the space.

    Raises:
        InvalidCheckpointError: the state is from another space.
    """
    saved = {name: tensor.cpu() for name, tensor in state.items() if name.startswith("space.")}
    if saved.keys() == space.keys() and all(torch.equal(saved[name], space[name]) for name in space):
        return
    raise InvalidCheckpointError.mismatch(
        "checkpoint",
        got="a search in a calibrated space" if saved else "a search in the full space",
        expected="this search's space; use the same search_space and calibration, or start again",
    )
