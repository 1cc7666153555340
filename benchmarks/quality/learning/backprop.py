"""Learn all cases of a method together with backpropagation: Textual Inversion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.model.inversion import BATCH, FIRST_T, LAST_T
from benchmarks.quality.cases.protocols import TOKEN, Learnable
from benchmarks.quality.learning.forward import begin_all, diverged, draw_sample, validation_loss
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.samples import Sample, samples_request

BACKPROP_FORWARDS = BATCH * (1 + 2)  # of one step of one case; a backward pass counts as two


class BackpropLearner:
    """Textual Inversion: Adam with a decaying rate on the true gradient, with the same references and captions."""

    def __init__(
        self,
        bundle: Bundle,
        cases: Sequence[Learnable],
        settings: PersonalizationSettings,
        rate: float,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        self._bundle, self._settings, self._rate = bundle, settings, rate
        if bundle.precision != "fp32":  # who quantizes has little memory
            bundle.denoiser.unet.enable_gradient_checkpointing()
        self._names = [case.name for case in cases]
        self._data = begin_all(bundle, cases, [settings] * len(cases))
        self._tokens = torch.stack([search.search.theta for search in self._data]).requires_grad_(True)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._adam = torch.optim.Adam([self._tokens], rate)
        self._step = 0
        if state is not None:
            self._restore(state)

    def _restore(self, state: dict[str, Tensor]) -> None:
        self._step = int(state["step"])
        self._generator.set_state(state["generator"])
        with torch.no_grad():
            self._tokens.copy_(state["tokens"])
        if self._step:
            names = ("step", "exp_avg", "exp_avg_sq")
            self._adam.state[self._tokens] = {name: state[f"adam.{name}"].clone() for name in names}

    @property
    def step(self) -> int:
        """Return the number of completed steps."""
        return self._step

    @property
    def forwards_per_step(self) -> int:
        """Return the evaluations of one step of one case, with the backward pass."""
        return BACKPROP_FORWARDS

    def _draw(self, search: Personalization) -> list[Sample]:
        """Draw a batch of one case."""
        return [draw_sample(search, self._generator, (FIRST_T, LAST_T)) for _ in range(BATCH)]

    def advance(self) -> None:
        """Run one step of every case. The cases share a batch; Adam updates each element independently.

        Raises:
            BenchmarkError: a loss is not finite.
        """
        phase = math.pi * self._step / self._settings.steps
        self._adam.param_groups[0]["lr"] = self._rate * (0.5 + 0.5 * math.cos(phase))
        samples = [self._draw(search) for search in self._data]
        requests = [
            samples_request(self._bundle.prompts, batch, TOKEN, token, self._settings.vectors)
            for batch, token in zip(samples, self._tokens, strict=True)
        ]
        embedded = [torch.cat(column) for column in zip(*(r.embedded for r in requests), strict=True)]
        states = self._bundle.prompts.encode(embedded, [p for r in requests for p in r.prompts])
        device = self._bundle.device
        predicted = self._bundle.denoiser.unet(
            torch.cat([request.noisy for request in requests]).to(device),
            torch.cat([request.timesteps for request in requests]).to(device),
            encoder_hidden_states=states.states,
        ).sample
        targets = torch.stack([sample.target for batch in samples for sample in batch]).to(device)
        losses = row_losses(predicted, targets).view(len(samples), BATCH).mean(dim=1)
        for name, loss in zip(self._names, losses.tolist(), strict=True):
            if not math.isfinite(loss):
                raise diverged(name, LossNotFiniteError())
        self._adam.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._step += 1

    def tokens(self) -> Float[Tensor, "cases flat"]:
        """Return the current token vectors."""
        return self._tokens.detach().clone()

    @torch.no_grad()
    def validation_losses(self) -> list[float]:
        """Return the validation loss of each case."""
        return [
            validation_loss(self._bundle, search, token)
            for search, token in zip(self._data, self.tokens(), strict=True)
        ]

    def state(self) -> dict[str, Tensor]:
        """Return tokens, moments and the generator state."""
        moments = self._adam.state[self._tokens]
        adam = {f"adam.{name}": tensor.clone() for name, tensor in moments.items()}
        values = {"step": torch.tensor(self._step), "tokens": self.tokens()}
        return {**values, "generator": self._generator.get_state(), **adam}
