"""The validation loss: the mean loss over the same images, noises and timesteps each time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.prompts import PromptEncoder
from zoodip_core.engine import Engine, Request
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.samples import Sample, samples_request


class ValidationMeasurement:
    """Measurement of the validation loss of a token, as a `BatchedJob` of one or more forward passes.

    Args:
        encoder: the text encoders.
        validation_set: the samples.
        token: the learned token.
        theta: its embedding; the measurement keeps it while the search goes on.
        vectors: number of its vectors.
        rows: rows of one forward pass. With those of a step, a measurement needs no more memory than the search.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        validation_set: Sequence[Sample],
        token: str,
        theta: Float[Tensor, " flat"],
        *,
        vectors: int,
        rows: int,
    ) -> None:
        self._encoder = encoder
        self._remaining = list(validation_set)
        self._token, self._theta, self._vectors = token, theta, vectors
        self._rows = rows
        self._losses: list[Tensor] = []

    @property
    def done(self) -> bool:
        """Whether all samples are measured."""
        return not self._remaining

    @property
    def rows(self) -> int:
        """Rows of the next request."""
        return min(self._rows, len(self._remaining))

    def build_request(self) -> Request:
        """Return the rows of the next samples."""
        samples = self._remaining[: self._rows]
        return samples_request(self._encoder, samples, self._token, self._theta, self._vectors)

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Measure the losses of the requested samples."""
        samples = self._remaining[: self._rows]
        targets = torch.stack([sample.target for sample in samples])
        weights = [
            sample.weight for sample in samples if sample.weight is not None
        ]  # all samples have one, or none
        self._losses.append(row_losses(prediction, targets, torch.stack(weights) if weights else None))
        self._remaining = self._remaining[self._rows :]

    def recover(self) -> bool:
        """Return false: the samples are fixed."""
        return False

    def run_alone(self, engine: Engine) -> ValidationMeasurement:
        """Measure all samples without other jobs, and return the complete measurement."""
        while not self.done:
            (prediction,) = engine.evaluate([self.build_request()])
            self.apply_predictions(prediction)
        return self

    def loss(self) -> float:
        """Return the mean loss once all samples are measured.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite.
        """
        loss = float(torch.cat(self._losses).mean())
        if not math.isfinite(loss):
            raise LossNotFiniteError(f"the validation loss is {loss}")
        return loss
