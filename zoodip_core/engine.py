"""Many searches on one frozen model: gathers their rows, runs one forward, hands the predictions back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import Prompt
from zoodip_core.errors import ZoodipError


@dataclass(frozen=True)
class Request:
    """Rows that one search wants evaluated: what the U-Net sees, and the prompts as input embeddings."""

    noisy: Float[Tensor, "rows c h w"]
    timesteps: Int[Tensor, " rows"]
    prompts: Sequence[Prompt]
    embedded: Sequence[Float[Tensor, "rows tokens _"]]  # one tensor for each text encoder


@runtime_checkable
class BatchedSearch(Protocol):
    """A search that asks for rows and is told what the model predicted for them."""

    def build_request(self) -> Request:
        """The rows of the next step; the same again until `apply_predictions` was called."""

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Take the predictions of the requested rows: one step of the search."""


class Engine:
    """Advances any number of searches by one step with one text-encoder and one U-Net forward."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def step(self, searchers: Sequence[BatchedSearch]) -> list[ZoodipError | None]:
        """One iteration of every search; one failing search leaves the others untouched.

        Returns:
            For each search its error, or None.

        Raises:
            OutOfMemoryError: not even one row fits; no search has moved.
        """
        predictions = self.evaluate([searcher.build_request() for searcher in searchers])
        return [
            _apply_predictions(s, prediction) for s, prediction in zip(searchers, predictions, strict=True)
        ]

    @torch.no_grad()
    def evaluate(self, requests: Sequence[Request]) -> list[Float[Tensor, "rows c h w"]]:
        """The model's predictions for each request, all rows in one forward, back on the CPU."""
        prompts = [prompt for request in requests for prompt in request.prompts]
        columns = zip(*(request.embedded for request in requests), strict=True)
        states = self.bundle.prompts.encode([torch.cat(column) for column in columns], prompts)
        device = self.bundle.device
        time_ids = self.bundle.time_ids((self.bundle.side_px, self.bundle.side_px))
        rows = Rows(
            torch.cat([request.noisy for request in requests]).to(device),
            torch.cat([request.timesteps for request in requests]).to(device),
            states.states,
            states.pooled,
            None if time_ids is None else time_ids.expand(len(prompts), -1),
        )
        prediction = self.bundle.denoiser.predict(rows).cpu()
        return list(torch.split(prediction, [len(request.prompts) for request in requests]))


def _apply_predictions(
    searcher: BatchedSearch, prediction: Float[Tensor, "rows c h w"]
) -> ZoodipError | None:
    try:
        searcher.apply_predictions(prediction)
    except ZoodipError as error:
        return error
    return None
