"""Learns pseudo-subjects by backpropagation, which calibration may use because it runs once for each base model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import PseudoSubject
from zoodip_core.calibration.start import TOKEN, begin_pseudo_subject
from zoodip_core.calibration.watch import Watch
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.samples import samples_request

BATCH = 4
"""Samples of each pseudo-subject in one step."""
RATE = 0.02
"""Learning rate of Adam at the first step; it decays to almost 0."""
TIMESTEPS = (0.3, 0.95)
"""Range of the timesteps, as a share of all."""


@dataclass(frozen=True)
class Backpropagation:
    """Learns by steps of Adam on the gradient of the loss.

    Attributes:
        bundle: the base model in fp32.
        options: number of steps.
        generation: steps and guidance scale of the pictures.
        watch: may stop before each pseudo-subject and each step.
    """

    bundle: Bundle
    options: CalibrationOptions
    generation: Mapping[str, int | float]
    watch: Watch

    def begin(self, subject: PseudoSubject, seed: int) -> Personalization:
        """Draw a pseudo-subject, at its initializer.

        Raises:
            InterruptedSearchError: the watch stopped the learning.
        """
        self.watch.check()
        return begin_pseudo_subject(self.bundle, subject, seed, self.generation)

    def learn(self, started: Sequence[Personalization], seed: int) -> Float[Tensor, "subjects flat"]:
        """Learn pseudo-subjects in one batch of samples of `seed`, and return how far the tokens moved.

        Raises:
            InterruptedSearchError: the watch stopped the learning; nothing is kept of this batch.
            LossNotFiniteError: a loss is NaN or infinite.
        """
        start = torch.stack([one.search.theta for one in started])
        tokens = start.clone().requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        adam = torch.optim.Adam([tokens], RATE)
        for step in range(steps := self.options.steps):
            self.watch.check()
            adam.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            loss = _loss(self.bundle, started, tokens, generator)
            if not loss.isfinite():
                raise LossNotFiniteError(
                    f"the loss became NaN or infinite in step {step + 1} of the calibration"
                )
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        return (tokens.detach() - start).cpu()

    def provenance(self) -> dict[str, Any]:
        """Return how pseudo-subjects are learned, for the calibration file."""
        return {"method": "backpropagation", "batch": BATCH, "learning_rate": RATE}


def _loss(
    bundle: Bundle,
    started: Sequence[Personalization],
    tokens: Float[Tensor, "subjects flat"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the sum of the subjects' losses on new samples; gradients flow to `tokens`."""

    def below(high: int, low: int = 0) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    low, high = (round(share * len(bundle.schedule)) for share in TIMESTEPS)
    samples = [
        [
            one.references.draw(
                below(len(one.references.posteriors)),
                flipped=below(2) == 1,
                timestep=below(high, low),
                seed=below(2**62),
            )
            for _ in range(BATCH)
        ]
        for one in started
    ]
    requests = [
        samples_request(bundle.prompts, batch, TOKEN, token, 1)
        for batch, token in zip(samples, tokens, strict=True)
    ]
    embedded = [torch.cat(column) for column in zip(*(one.embedded for one in requests), strict=True)]
    states = bundle.prompts.encode(embedded, [prompt for one in requests for prompt in one.prompts])
    predicted = bundle.denoiser.unet(
        torch.cat([one.noisy for one in requests]).to(bundle.device),
        torch.cat([one.timesteps for one in requests]).to(bundle.device),
        encoder_hidden_states=states.states,
        added_cond_kwargs=_size_conditioning(bundle, states.pooled),
    ).sample
    targets = torch.stack([sample.target for batch in samples for sample in batch]).to(bundle.device)
    return row_losses(predicted, targets).sum() / BATCH


def _size_conditioning(bundle: Bundle, pooled: Float[Tensor, "rows p"] | None) -> dict[str, Tensor] | None:
    """Return SDXL's further conditioning, or None for other families."""
    time_ids = bundle.time_ids((bundle.side_px, bundle.side_px))
    if pooled is None or time_ids is None:
        return None
    return {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)}
