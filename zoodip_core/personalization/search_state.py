"""State of a personalization as tensors: the search, its validation losses, and the precision of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from zoodip_core.errors import InvalidCheckpointError


@dataclass(frozen=True)
class SearchState:
    """Content of a checkpoint.

    Attributes:
        search: tensors of `TokenSearch.state`.
        fixed_losses: validation losses so far.
        rate_halved: whether the search continues with half the learning rate.
        precision: precision of the weights. Other weights have another loss.
    """

    search: dict[str, Tensor]
    fixed_losses: list[float]
    rate_halved: bool
    precision: str

    def encode(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint file."""
        state = {
            **self.search,
            "fixed_losses": torch.tensor(self.fixed_losses, dtype=torch.float64),
            "precision": torch.tensor(list(self.precision.encode()), dtype=torch.uint8),
        }
        return state | ({"rate_halved": torch.tensor(True)} if self.rate_halved else {})

    @classmethod
    def decode(cls, tensors: Mapping[str, Tensor], precision: str) -> SearchState:
        """Return the state of a checkpoint file. A file without a precision is from an older version.

        Raises:
            InvalidCheckpointError: there are no validation losses, or the precision is not `precision`.
        """
        search = dict(tensors)
        losses = search.pop("fixed_losses", None)
        if losses is None or not len(losses):
            raise InvalidCheckpointError.mismatch("checkpoint", got="no fixed_losses", expected="one or more")
        mark = search.pop("precision", None)
        saved = (
            precision
            if mark is None
            else bytes(mark.flatten().to(torch.uint8).tolist()).decode(errors="replace")
        )
        if saved != precision:
            raise InvalidCheckpointError.mismatch(
                "checkpoint",
                got=f"a search on a base model in {saved}",
                expected=f"one on this base model in {precision}; use the same precision, or start again",
            )
        halved = search.pop("rate_halved", None) is not None
        return cls(search, [float(loss) for loss in losses], halved, precision)
