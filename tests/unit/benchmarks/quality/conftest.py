"""What the tests of EmojiBooth's tools share: two cases on a narrow random model, and stand-ins that measure."""

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
from benchmarks.quality.cases.subjects import Case, cases
from benchmarks.quality.metrics import Instruments
from benchmarks.quality.run import Booth, Options, Selection
from models.emoji.judge import Judge
from models.emoji.world import shipped_world
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.latents import to_tensor

MakeBooth = Callable[..., Booth]
LosePictures = Callable[[Path], Iterator[None]]


class Colours:
    """Stands for the CLIP pair: mean colours for images, lengths for texts."""

    def images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit rows of the colours."""
        return normalize(torch.stack([to_tensor(image).mean(dim=(1, 2)) for image in images]), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit rows of lengths."""
        return normalize(torch.tensor([[float(len(text)), 1.0, 2.0] for text in texts]), dim=-1)


@pytest.fixture
def tools() -> Instruments:
    """A judge that has learned nothing, and colours for CLIP."""
    torch.manual_seed(0)
    return Instruments(shipped_world(), Judge(shipped_world(), (8, 8, 8, 8)).eval(), Colours(), "stand-ins")


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Two cases that start from a word of the narrow model."""
    found = [replace(case, initializer="dog") for case in cases(shipped_world(), "subjects", "report", 2)]
    monkeypatch.setattr(run_module, "cases", lambda *_: found)
    return found


@pytest.fixture
def entry(family_folder: dict[str, Path]) -> BaseModelEntry:
    """The narrow SD1 with a quick falling rate as its default."""
    return BaseModelEntry(
        name="sd1",
        path=family_folder["sd1"],
        precision="fp32",
        steps=2,
        guidance_scale=1.5,
        settings={"n": 2, "learning_rate_schedule": "cosine", "fixed_rows": 2},
    )


@pytest.fixture
def booth(entry: BaseModelEntry, tools: Instruments, tmp_path: Path) -> MakeBooth:
    """Makes a booth; `settings` change the base model's own."""

    def make(methods: Sequence[str], forwards: Sequence[int] = (12,), **settings: object) -> Booth:
        chosen = Selection(tmp_path, prompts=2, pictures=2, changes={"fixed_rows": 2}, device="cpu")
        model = entry.model_copy(update={"settings": entry.settings | settings})
        return Booth(model, Options(chosen, methods, seeds=1, forwards=forwards), tools, lambda _: None)

    return make


@pytest.fixture
def lose_pictures() -> LosePictures:
    """Takes away what a run has kept in its folder: the first picture of one row, then all; a turn for each."""

    def lose(out: Path) -> Iterator[None]:
        min((out / "pictures").glob("*/0.png")).unlink()
        yield
        shutil.rmtree(out / "pictures")
        yield

    return lose
