"""Batches the rows of many searches into one forward pass of the frozen model."""

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
from zoodip_core.errors import LossNotFiniteError, ZoodipError


@dataclass(frozen=True)
class Request:
    """Rows of one search for the next forward pass: U-Net inputs, and prompts as input embeddings."""

    noisy: Float[Tensor, "rows c h w"]
    timesteps: Int[Tensor, " rows"]
    prompts: Sequence[Prompt]
    embedded: Sequence[Float[Tensor, "rows tokens _"]]  # one tensor for each text encoder


@runtime_checkable
class BatchedSearch(Protocol):
    """Interface of a search that the engine can batch."""

    def build_request(self) -> Request:
        """Return the rows of the next step. Repeated calls return the same rows until `apply_predictions`."""

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete one step of the search with the predictions for the requested rows."""

    def recover(self) -> bool:
        """Prepare another attempt after a loss that is not finite. Return whether there is one."""


class Engine:
    """Advances any number of searches by one step with one text-encoder and one U-Net forward pass."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def step(self, searchers: Sequence[BatchedSearch]) -> list[ZoodipError | None]:
        """Advance every search by one step. An error of one search does not affect the others.

        A search whose loss is not finite is repeated alone as long as it can recover.

        Returns:
            The error of each search, or None.

        Raises:
            OutOfMemoryError: not even one row fits in memory; no search has advanced.
        """
        predictions = self.evaluate([searcher.build_request() for searcher in searchers])
        return [self._advance(s, prediction) for s, prediction in zip(searchers, predictions, strict=True)]

    def _advance(
        self, searcher: BatchedSearch, prediction: Float[Tensor, "rows c h w"]
    ) -> ZoodipError | None:
        while True:
            try:
                searcher.apply_predictions(prediction)
            except LossNotFiniteError as error:
                if not searcher.recover():
                    return error
            except ZoodipError as error:
                return error
            else:
                return None
            try:
                (prediction,) = self.evaluate([searcher.build_request()])
            except ZoodipError as error:
                return error

    @torch.no_grad()
    def evaluate(self, requests: Sequence[Request]) -> list[Float[Tensor, "rows c h w"]]:
        """Return the model's predictions for each request, on the CPU. All rows share one forward pass."""
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
