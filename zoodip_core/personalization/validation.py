"""The validation loss: the mean loss over the same images, noises and timesteps each time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.samples import Sample, samples_request


def validation_loss(
    bundle: Bundle,
    validation_set: Sequence[Sample],
    token: str,
    theta: Float[Tensor, " flat"],
    *,
    vectors: int,
    rows: int,
) -> float:
    """Return the mean loss of a token over the validation set.

    Args:
        bundle: the base model.
        validation_set: the samples.
        token: the learned token.
        theta: its embedding.
        vectors: number of its vectors.
        rows: rows of one forward pass. With those of a step, a measurement needs no more memory than the search.

    Raises:
        LossNotFiniteError: the loss is NaN or infinite.
    """
    engine, losses = Engine(bundle), []
    for start in range(0, len(validation_set), rows):
        samples = validation_set[start : start + rows]
        request = samples_request(bundle.prompts, samples, token, theta, vectors)
        (prediction,) = engine.evaluate([request])
        losses.append(row_losses(prediction, torch.stack([sample.target for sample in samples])))
    loss = float(torch.cat(losses).mean())
    if not math.isfinite(loss):
        raise LossNotFiniteError(f"the validation loss is {loss}")
    return loss
