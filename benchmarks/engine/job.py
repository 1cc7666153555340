"""Measure the memory of a whole job: loading, encoding the references, a step, a preview and a generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.engine.live_bytes import LiveBytes
from benchmarks.engine.measure import SUBJECT
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion import loading
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization

DENOISING_STEPS = 2  # each further step takes the same memory


@dataclass(frozen=True)
class JobFigures:
    """Peak bytes of each part of a job, weights included.

    On CUDA they are the bytes that torch's allocator has allocated. On a CPU they are the bytes of live tensors,
    without memory that a kernel allocates for itself. Activations are then bf16, as large as CUDA's fp16.
    """

    load: int
    begin: int
    step: int
    preview: int
    generation: int

    @property
    def peak(self) -> int:
        """Peak bytes of the whole job."""
        return max(self.load, self.begin, self.step, self.preview, self.generation)


class _Meter(ExitStack):
    """Reads the peak since the last reading, from CUDA's allocator or by counting live tensors."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._live = None if device.startswith("cuda") else self.enter_context(LiveBytes())
        if self._live is None:
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> int:
        """Return the peak, and start the next one at the current use."""
        if self._live is None:
            peak: int = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        else:
            peak, self._live.peak = self._live.peak, self._live.current
        return peak


@contextmanager
def sized_as_on_cuda(device: str) -> Iterator[None]:
    """Load base models on the CPU with 16-bit activations, which are too coarse to learn but have the right size."""
    if device.startswith("cuda"):
        yield
        return
    with patch.object(loading, "compute_dtype", _half_precision):
        yield


def _half_precision(_: torch.device, precision: str) -> torch.dtype:
    return torch.float32 if precision == "fp32" else torch.bfloat16


def measure_job(entry: BaseModelEntry, *, device: str, n: int, images: int = 1) -> JobFigures:
    """Run each part of a personalization and a generation once.

    Args:
        entry: the base model.
        device: "cpu" or "cuda".
        n: directions of a step.
        images: images of the generation; a preview has one.
    """
    settings = PersonalizationSettings.parse({"steps": 1, "n": n, "fixed_rows": n + 1})
    prompt = GenerationSettings.parse({"prompt": f"a photo of a {SUBJECT.token}", "steps": DENOISING_STEPS})
    with _Meter(device) as meter, sized_as_on_cuda(device):
        bundle = load_bundle(entry, device=device)
        load = meter.read()
        noise = np.random.default_rng(0).integers(0, 256, (bundle.side_px, bundle.side_px, 3), np.uint8)
        search = Personalization.begin(bundle, SUBJECT, [Image.fromarray(noise)], settings)
        begin = meter.read()
        Engine(bundle).advance([search])
        step = meter.read()
        generate(bundle, prompt, search.concept_vectors)
        preview = meter.read()
        generate(bundle, prompt.model_copy(update={"n": images}), search.concept_vectors)
        return JobFigures(load, begin, step, preview, meter.read())
