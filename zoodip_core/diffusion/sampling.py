"""Reverse diffusion as a state machine: it asks for the predictions of a step, in parts of any size."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.device import to_device
from zoodip_core.diffusion.guidance import Guidance
from zoodip_core.diffusion.prompts import PromptStates


class Sampler:
    """Denoises latents step by step. The caller evaluates the U-Net.

    Args:
        scheduler: scheduler of diffusers with its timesteps.
        noise: initial noise, one row for each image, with variance 1.
        branches: text conditioning, one row for each image: [negative, positive], or [positive] without guidance.
        guidance: combines the predictions of both branches.
        generators: random generator of each image.
        time_ids: size conditioning (SDXL only).

    Attributes:
        latents: current latents.
        estimates: clean latents that the last step estimated, or its latents if the scheduler estimates none.
    """

    def __init__(
        self,
        scheduler: Any,
        noise: Float[Tensor, "images c h w"],
        branches: Sequence[PromptStates],
        guidance: Guidance,
        generators: Sequence[torch.Generator],
        time_ids: Float[Tensor, "1 6"] | None,
    ) -> None:
        self.latents = noise * scheduler.init_noise_sigma
        self.estimates: Tensor | None = None
        self._scheduler = scheduler
        self._branches = branches
        self._guidance = guidance
        self._time_ids = time_ids
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        self._extra: dict[str, Any] = {"generator": generators} if takes_generator else {}
        self._completed = 0  # timesteps
        self._rows: Rows | None = None  # of the current timestep, built by its first request
        self._predicted: list[Tensor] = []  # for the first rows of the current timestep

    @property
    def progress(self) -> tuple[int, int]:
        """Number of completed timesteps, and of all. Some schedulers take more timesteps than steps."""
        return self._completed, len(self._scheduler.timesteps)

    @property
    def done(self) -> bool:
        """Whether all timesteps are completed."""
        return self._completed == len(self._scheduler.timesteps)

    @property
    def remaining_rows(self) -> int:
        """Rows of the current timestep without a prediction; 0 at the end."""
        rows = 0 if self.done else len(self._branches) * len(self.latents)
        return rows - sum(len(part) for part in self._predicted)

    @torch.no_grad()
    def build_request(self, most_rows: int) -> Rows:
        """Return the next rows of the current timestep, at most `most_rows`."""
        if self._rows is None:
            timestep = self._scheduler.timesteps[self._completed]
            noisy = self._scheduler.scale_model_input(self.latents, timestep)
            self._rows = Rows.cat(
                [_rows(noisy, timestep, states, self._time_ids) for states in self._branches]
            )
        first = len(self._rows) - self.remaining_rows
        return self._rows[first : first + most_rows]

    @torch.no_grad()
    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete the timestep, or a part of it, with the predictions for the requested rows.

        After an error nothing has changed, so that it can be repeated.
        """
        predicted = [*self._predicted, prediction]
        if self.remaining_rows > len(prediction):
            self._predicted = predicted
            return
        output = torch.cat(predicted)
        if len(self._branches) == 2:
            output = self._guidance.apply(*output.chunk(2))
        timestep = self._scheduler.timesteps[self._completed]
        stepped = self._scheduler.step(output, timestep, self.latents, **self._extra)
        self.latents = stepped.prev_sample
        clean = getattr(stepped, "pred_original_sample", None)
        self.estimates = self.latents if clean is None else clean
        self._rows, self._predicted = None, []
        self._completed += 1


def _rows(
    noisy: Float[Tensor, "images c h w"], t: Tensor, states: PromptStates, time_ids: Tensor | None
) -> Rows:
    count = len(noisy)
    repeated_ids = None if time_ids is None else time_ids.expand(count, -1)
    timesteps = to_device(t.expand(count), noisy.device)
    return Rows(noisy, timesteps, states.states, states.pooled, repeated_ids)
