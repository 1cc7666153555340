"""Batched U-Net evaluation: rows to predictions, and predictions to losses or directional derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from zoodip_core.diffusion.compiled import CompiledNetwork
from zoodip_core.diffusion.device import empty_cache
from zoodip_core.diffusion.memory import is_out_of_memory
from zoodip_core.diffusion.quantize import quantization_report
from zoodip_core.diffusion.row_limit import RowLimit
from zoodip_core.diffusion.threads import threads_for
from zoodip_core.errors import OutOfMemoryError


@dataclass(frozen=True)
class Rows:
    """Inputs of a batch of U-Net evaluations, one row for each evaluation.

    Attributes:
        noisy: noisy latents.
        timesteps: timesteps; some schedulers, such as Euler, use fractional ones.
        states: text-encoder states.
        pooled: pooled text-encoder states (SDXL only).
        time_ids: size conditioning (SDXL only).
    """

    noisy: Float[Tensor, "rows c h w"]
    timesteps: Num[Tensor, " rows"]
    states: Float[Tensor, "rows tokens d"]
    pooled: Float[Tensor, "rows p"] | None = None
    time_ids: Float[Tensor, "rows 6"] | None = None

    def __len__(self) -> int:
        return len(self.noisy)

    def __getitem__(self, part: slice) -> Rows:
        """Return the rows of a slice."""
        columns: list[Any] = [getattr(self, f.name) for f in fields(self)]
        taken: list[Any] = [None if column is None else column[part] for column in columns]
        return Rows(*taken)

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """Concatenate the rows of all parts, in order."""
        columns: list[list[Any]] = [[getattr(part, f.name) for part in parts] for f in fields(cls)]
        joined: list[Any] = [None if column[0] is None else torch.cat(column) for column in columns]
        return cls(*joined)


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise schedule ᾱ_t and the prediction type of the U-Net.

    Attributes:
        alphas_cumprod: ᾱ_t for each timestep, in (0, 1).
        velocity: whether the U-Net predicts the velocity; otherwise it predicts the noise.
    """

    alphas_cumprod: Float[Tensor, " timesteps"]
    velocity: bool

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def noisy(
        self, latent: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], t: int
    ) -> Float[Tensor, "*shape"]:
        """Return the noisy latent z_t = √ᾱ_t z + √(1−ᾱ_t) ε.

        Source: arXiv:2503.14868v1, Eq. (1)
        """
        alpha = self.alphas_cumprod[t]
        return alpha.sqrt() * latent + (1 - alpha).sqrt() * noise

    def target(
        self, latent: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], t: int
    ) -> Float[Tensor, "*shape"]:
        """Return the prediction target: the noise ε, or the velocity √ᾱ_t ε − √(1−ᾱ_t) z."""
        if not self.velocity:
            return noise
        alpha = self.alphas_cumprod[t]
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latent


class Denoiser:
    """Runs rows through the frozen U-Net in batches that fit into memory.

    Attributes:
        unet: the frozen U-Net.
        dtype: compute dtype of the activations.
        parameters: number of the U-Net's parameters.
        max_rows: most rows of one forward pass; None for no limit.
        compiled: runs the U-Net compiled, where it can; None for the eager path only.

    Args:
        compiled_tokens: length of the texts for which the U-Net is compiled; None does not compile it.
    """

    def __init__(
        self,
        unet: Any,
        *,
        dtype: torch.dtype,
        max_rows: int | None = None,
        compiled_tokens: int | None = None,
    ) -> None:
        self.unet = unet
        self.dtype = dtype
        self.max_rows = max_rows
        self.compiled = None if compiled_tokens is None else compiled_unet(unet, compiled_tokens)
        self.parameters = quantization_report([unet]).parameters
        self._limits: dict[tuple[int, int], RowLimit] = {}  # by height and width of the latents

    def predict(self, rows: Rows) -> Float[Tensor, "rows c h w"]:
        """Return the U-Net's output for each row, in fp32.

        If memory runs out, the forward pass is repeated with fewer rows. Later calls find the largest batch that
        fits. From time to time they try larger ones again.

        Raises:
            OutOfMemoryError: a single row does not fit.
        """
        with self.threads(len(rows) * rows.noisy[0, 0].numel()):
            return self._predict_in_parts(rows)

    def threads(self, cells: int) -> AbstractContextManager[None]:
        """Return a context that chooses the number of CPU threads for work on rows with `cells` latent cells."""
        return threads_for(cells * self.parameters)

    def _predict_in_parts(self, rows: Rows) -> Float[Tensor, "rows c h w"]:
        limit = self._limit(rows)
        parts: list[Tensor] = []
        done = 0
        while done < len(rows):
            size = limit.size(len(rows) - done)
            try:
                parts.append(self._forward(rows[done : done + size]))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                limit.record_failure(size)
                if size == 1:
                    raise OutOfMemoryError from error
            else:
                limit.record_success(size)
                done += size
                continue
            empty_cache(rows.noisy.device)  # after the handler, because its traceback holds tensors
        return torch.cat(parts)

    def _limit(self, rows: Rows) -> RowLimit:
        height, width = rows.noisy.shape[2:]
        return self._limits.setdefault((height, width), RowLimit(self.max_rows))

    @torch.no_grad()
    def _forward(self, rows: Rows) -> Float[Tensor, "rows c h w"]:
        given = (rows.noisy, rows.timesteps, rows.states, rows.pooled, rows.time_ids)
        noisy, timesteps, *conditions = [one for one in given if one is not None]
        inputs = [
            noisy.to(self.dtype, memory_format=torch.channels_last),
            timesteps,
            *(one.to(self.dtype) for one in conditions),
        ]
        if self.compiled is not None:
            as_floats = timesteps.float()  # one program for all kinds of timesteps
            outputs = self.compiled.run([inputs[0], as_floats, *inputs[2:]])
            if outputs is not None:
                return outputs[0].float()
        return evaluate(self.unet, inputs).float()


def evaluate(unet: Any, inputs: Sequence[Tensor]) -> Float[Tensor, "rows c h w"]:
    """Run the U-Net.

    Args:
        unet: the U-Net.
        inputs: noisy latents, timesteps and text-encoder states; for SDXL also pooled states and size conditioning.
    """
    noisy, timesteps, states, *added = inputs
    conditions = dict(zip(("text_embeds", "time_ids"), added, strict=True)) if added else None
    output: Tensor = unet(
        noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=conditions, return_dict=False
    )[0]
    return output


def compiled_unet(unet: Any, tokens: int) -> CompiledNetwork:
    """Return the U-Net with programs for its native image size and texts of `tokens` tokens."""
    side = int(unet.config.sample_size)

    def accepts(inputs: Sequence[Tensor]) -> bool:
        return inputs[0].shape[2:] == (side, side) and inputs[2].shape[1] == tokens

    return CompiledNetwork("the U-Net", lambda *inputs: (evaluate(unet, inputs),), accepts)


def row_losses(
    prediction: Float[Tensor, "rows c h w"],
    target: Float[Tensor, "rows c h w"],
    weight: Float[Tensor, "#rows 1 h w"] | None = None,
) -> Float[Tensor, " rows"]:
    """Return the mean squared error of each row. Like the published script, it is a mean and not a sum.

    Source: arXiv:2503.14868v1, Eq. (1)

    Args:
        prediction: outputs of the U-Net.
        target: targets of the outputs.
        weight: weights of the latent's cells with a mean of 1; None weights all alike.
    """
    squares = (prediction - target).square()
    return (squares if weight is None else squares * weight).flatten(1).mean(dim=1)


def directional_derivatives(
    prediction: Float[Tensor, "rows c h w"],
    target: Float[Tensor, "c h w"],
    mu: float,
    weight: Float[Tensor, "1 h w"] | None = None,
) -> Float[Tensor, " directions"]:
    """Return the directional derivative 2⟨Δ_i, r⟩/(N μ) of the loss for each direction e_i.

    r is the residual at θ (row 0) and Δ_i the change of the output at θ + μ e_i; N is the number of output values.
    A difference of two losses would add the bias ‖Δ_i‖²/(N μ), which is never negative.

    Args:
        prediction: outputs of the U-Net: row 0 at θ, row i at θ + μ e_i.
        target: target that all rows share.
        mu: step of the finite difference, μ.
        weight: weights of the latent's cells, as in `row_losses`; they weight the residual.
    """
    residual = prediction[0] - target
    residual = residual if weight is None else residual * weight
    change = prediction[1:] - prediction[0]
    return 2 * (change * residual).flatten(1).mean(dim=1) / mu


def directional_curvature(
    prediction: Float[Tensor, "rows c h w"], mu: float, weight: Float[Tensor, "1 h w"] | None = None
) -> Float[Tensor, "directions directions"]:
    """Return the Gauss–Newton curvature 2⟨Δ_i, Δ_j⟩/(N μ²) of the loss between the directions e_i and e_j.

    Args:
        prediction: as in `directional_derivatives`.
        mu: step of the finite difference, μ.
        weight: weights of the latent's cells, as in `row_losses`.
    """
    change = prediction[1:] - prediction[0]
    weighted = change if weight is None else change * weight
    return 2 * weighted.flatten(1) @ change.flatten(1).T / (change[0].numel() * mu**2)
