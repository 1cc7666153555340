"""Fixtures of unit tests: a narrow model of each family, built once a session, reference images, and threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tooling.models import build_family
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import Bundle, load_bundle

FAMILIES = ("sd1", "sd2", "sd2_v", "sdxl")


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let torch use two threads, without the variable that the test suite sets."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder in the layout of diffusers for each family."""
    return {family: build_family(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="session")
def bundles(family_folder: dict[str, Path]) -> dict[str, Bundle]:
    """Return a loaded model for each family, in fp32 on the CPU."""
    return {
        family: load_bundle(BaseModelEntry(name=family, path=folder, precision="fp32"), device="cpu")
        for family, folder in family_folder.items()
    }


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Return the name of each family in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Return three colored noise images of different sizes and aspect ratios."""
    random = np.random.default_rng(0)
    sizes = ((80, 64, 3), (64, 64, 3), (64, 100, 3))
    return [Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)) for size in sizes]
