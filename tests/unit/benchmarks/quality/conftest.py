"""Fixtures for EmojiBooth: two cases on a narrow model with random weights, and stand-in instruments."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.quality import run as run_module
from benchmarks.quality.cases.subjects import Case, make_cases
from benchmarks.quality.metrics import Instruments
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from models.emoji.judge import Judge
from models.emoji.world import shipped_world
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.latents import to_tensor

MakeRun = Callable[..., BenchmarkRun]
LosePictures = Callable[[Path], Iterator[None]]


class ColorEmbedder:
    """Stand-in for the CLIP pair: mean colors of images, lengths of texts."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit rows of mean colors."""
        return normalize(torch.stack([to_tensor(image).mean(dim=(1, 2)) for image in images]), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit rows of lengths."""
        return normalize(torch.tensor([[float(len(text)), 1.0, 2.0] for text in texts]), dim=-1)


@pytest.fixture
def tools() -> Instruments:
    """Return an untrained judge and the stand-in for CLIP."""
    torch.manual_seed(0)
    return Instruments(
        shipped_world(), Judge(shipped_world(), (8, 8, 8, 8)).eval(), ColorEmbedder(), "stand-ins"
    )


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Return two cases whose initializer is a word of the narrow model."""
    found = [replace(case, initializer="dog") for case in make_cases(shipped_world(), "subjects", "test", 2)]
    monkeypatch.setattr(run_module, "make_cases", lambda *_, **__: found)
    return found


@pytest.fixture
def entry(family_folder: dict[str, Path]) -> BaseModelEntry:
    """Return the narrow SD1 model; its default is a short search with a decaying rate."""
    return BaseModelEntry(
        name="sd1",
        path=family_folder["sd1"],
        precision="fp32",
        steps=2,
        guidance_scale=1.5,
        settings={"n": 2, "learning_rate_schedule": "cosine", "fixed_rows": 2},
    )


@pytest.fixture
def benchmark(entry: BaseModelEntry, tools: Instruments, tmp_path: Path) -> MakeRun:
    """Return a function that creates a run; `settings` change those of the base model."""

    def make(methods: Sequence[str], forwards: Sequence[int] = (12,), **settings: object) -> BenchmarkRun:
        chosen = Selection(tmp_path, prompts=2, pictures=2, changes={"fixed_rows": 2}, device="cpu")
        model = entry.model_copy(update={"settings": entry.settings | settings})
        return BenchmarkRun(
            model, RunOptions(chosen, methods, seeds=1, forwards=forwards), tools, lambda _: None
        )

    return make


@pytest.fixture
def lose_pictures() -> LosePictures:
    """Return a generator that deletes stored pictures: the first of one row, then all."""

    def lose(out: Path) -> Iterator[None]:
        min((out / "pictures").glob("*/0.png")).unlink()
        yield
        shutil.rmtree(out / "pictures")
        yield

    return lose
