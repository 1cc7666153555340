"""Compute the memory of a whole job from shapes alone, with torch's meta device. Nothing is loaded and nothing runs.

Activations have 16 bits, as on CUDA; SDXL's VAE has 32. Attention stores no scores, as with CUDA's fused kernels. The
memory of kernels and of the allocator is missing. On an NVIDIA H200 a step of SD1.5 took 1 % more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.engine.job import JobFigures
from benchmarks.engine.live_bytes import LiveBytes
from tests.tooling.families import Config, Family
from tests.tooling.models import meta_model
from zoodip_core.diffusion import vae_strips
from zoodip_core.diffusion.denoising import Denoiser, Rows
from zoodip_core.diffusion.quantize import Bits, quantization_report, quantize_model

GUIDED_ROWS = 2  # of a generation of one image: with and without the prompt
TOKENS = 77


def compute_job(family: Family, *, precision: Bits, n: int) -> JobFigures:
    """Return the peak bytes of each part of a job, weights included.

    Args:
        family: configurations of the base model.
        precision: "int8" or "nf4".
        n: directions of a step.
    """
    dtype = torch.bfloat16 if precision == "nf4" else torch.float16
    upcast = family.vae.get("force_upcast", False)
    with torch.device("meta"):
        unet = _quantized("UNet2DConditionModel", family.unet, precision, dtype)
        vae = _quantized("AutoencoderKL", family.vae, "int8", torch.float32 if upcast else torch.float16)
        texts = [_text_encoder(*pair) for pair in zip(family.text_classes, family.text, strict=True)]
        weights = quantization_report([unet, *texts]).size_bytes
        with_vae = weights + quantization_report([vae]).size_bytes
        step, guided = (_denoising_peak(unet, family, dtype, rows) for rows in (n + 1, GUIDED_ROWS))
        encoding, decoding = _vae_peaks(vae, cells=int(family.unet["sample_size"]))
    drawing = with_vae + max(guided, decoding)
    return JobFigures(weights, with_vae + encoding, with_vae + step, drawing, drawing)


def _quantized(name: str, config: Config, precision: Bits, dtype: torch.dtype) -> nn.Module:
    return quantize_model(meta_model(name, config).to(dtype), precision=precision)


def _text_encoder(name: str, config: Config) -> nn.Module:
    model: Any = _quantized(name, config, "int8", torch.float32)
    body = model.text_model if "Projection" in name else model
    body.embeddings.token_embedding.half()
    return model  # type: ignore[no-any-return]


def _denoising_peak(unet: nn.Module, family: Family, dtype: torch.dtype, count: int) -> int:
    """Return the bytes of activations of a forward pass of `count` rows."""
    side = int(family.unet["sample_size"])
    is_xl = "addition_embed_type" in family.unet
    with _counted() as live:
        rows = Rows(
            torch.empty(count, 4, side, side),
            torch.empty(count, dtype=torch.int64),
            torch.empty(count, TOKENS, int(family.unet["cross_attention_dim"])),
            torch.empty(count, int(family.text[-1]["projection_dim"])) if is_xl else None,
            torch.empty(count, 6) if is_xl else None,
        )
        Denoiser(unet, dtype=dtype).predict(rows)
    return live.peak


def _vae_peaks(vae: nn.Module, *, cells: int) -> tuple[int, int]:
    """Return the bytes of activations of encoding and of decoding one image."""
    dtype = next(vae.parameters()).dtype
    with _counted() as encoding:
        vae_strips.encode(vae, torch.empty(1, 3, 8 * cells, 8 * cells, dtype=dtype))
    with _counted() as decoding:
        vae_strips.decode(vae, torch.empty(1, 4, cells, cells, dtype=dtype))
    return encoding.peak, decoding.peak


@contextmanager
def _counted() -> Iterator[LiveBytes]:
    """Count meta tensors. A copy to the CPU, which meta tensors cannot have, is the tensor itself."""
    with (
        torch.no_grad(),
        patch.object(functional, "scaled_dot_product_attention", _fused_attention),
        patch.object(Tensor, "cpu", lambda tensor: tensor),
        LiveBytes(meta=True) as live,
    ):
        yield live


def _fused_attention(query: Tensor, *_: Tensor, **__: object) -> Tensor:
    return torch.empty_like(query)
