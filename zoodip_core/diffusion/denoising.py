"""Rows → predictions → losses or directional derivatives, all candidates of a step in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from zoodip_core.errors import OutOfMemoryError


@dataclass(frozen=True)
class Rows:
    """U-Net evaluations that wait for a forward."""

    noisy: Float[Tensor, "rows c h w"]
    timesteps: Num[Tensor, " rows"]  # Euler and its kin stand between two steps
    states: Float[Tensor, "rows tokens d"]
    pooled: Float[Tensor, "rows p"] | None = None
    time_ids: Float[Tensor, "rows 6"] | None = None

    def __len__(self) -> int:
        return len(self.noisy)

    def __getitem__(self, part: slice) -> Rows:
        """The rows of a slice."""
        columns: list[Any] = [getattr(self, f.name) for f in fields(self)]
        taken: list[Any] = [None if column is None else column[part] for column in columns]
        return Rows(*taken)

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of all parts, in order."""
        columns: list[list[Any]] = [[getattr(part, f.name) for part in parts] for f in fields(cls)]
        joined: list[Any] = [None if column[0] is None else torch.cat(column) for column in columns]
        return cls(*joined)


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of the image is left at each timestep, and what the U-Net is asked to predict."""

    alphas_cumprod: Float[Tensor, " timesteps"]
    velocity: bool

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def noisy(
        self, latent: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], t: int
    ) -> Float[Tensor, "*shape"]:
        """z_t = √ᾱ_t z + √(1−ᾱ_t) ε.

        Source: arXiv:2503.14868v1, Eq. (1)
        """
        alpha = self.alphas_cumprod[t]
        return alpha.sqrt() * latent + (1 - alpha).sqrt() * noise

    def target(
        self, latent: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], t: int
    ) -> Float[Tensor, "*shape"]:
        """The noise, or the velocity √ᾱ_t ε − √(1−ᾱ_t) z where the model predicts that."""
        if not self.velocity:
            return noise
        alpha = self.alphas_cumprod[t]
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latent


class Denoiser:
    """Runs rows through the frozen U-Net, as many at once as memory allows."""

    def __init__(self, unet: Any, *, dtype: torch.dtype, max_rows: int | None = None) -> None:
        self.unet = unet
        self.dtype = dtype
        self.max_rows = max_rows

    def predict(self, rows: Rows) -> Float[Tensor, "rows c h w"]:
        """The U-Net's output for each row, in fp32.

        When memory runs out, `max_rows` is halved and the forward repeated.

        Raises:
            OutOfMemoryError: a single row does not fit.
        """
        while True:
            limit = min(self.max_rows or len(rows), len(rows))
            try:
                parts = [self._forward(rows[k : k + limit]) for k in range(0, len(rows), limit)]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if limit == 1:
                    raise OutOfMemoryError from error
                self.max_rows = limit // 2
            else:
                return torch.cat(parts)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @torch.no_grad()
    def _forward(self, rows: Rows) -> Float[Tensor, "rows c h w"]:
        added = None
        if rows.pooled is not None and rows.time_ids is not None:
            added = {"text_embeds": rows.pooled.to(self.dtype), "time_ids": rows.time_ids.to(self.dtype)}
        output: Tensor = self.unet(
            rows.noisy.to(self.dtype, memory_format=torch.channels_last),
            rows.timesteps,
            encoder_hidden_states=rows.states.to(self.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return output.float()


def row_losses(
    prediction: Float[Tensor, "rows c h w"], target: Float[Tensor, "rows c h w"]
) -> Float[Tensor, " rows"]:
    """Mean of squares of each row; the published script takes the mean, not the sum.

    Source: arXiv:2503.14868v1, Eq. (1)
    """
    return (prediction - target).square().flatten(1).mean(dim=1)


def directional_derivatives(
    prediction: Float[Tensor, "rows c h w"], target: Float[Tensor, "c h w"], mu: float
) -> Float[Tensor, " directions"]:
    """2⟨Δ_i, r⟩/(N μ), with r the residual at θ (row 0) and Δ_i the change of the output at θ + μ e_i.

    Unlike a difference of two losses it lacks the always-positive term ‖Δ_i‖²/(N μ).
    """
    residual = prediction[0] - target
    change = prediction[1:] - prediction[0]
    return 2 * (change * residual).flatten(1).mean(dim=1) / mu


def _is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a type of its own; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
