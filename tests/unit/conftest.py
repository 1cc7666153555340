"""Narrow models of every family, built once a session; a small set of reference images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tooling.models import build_family
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import Bundle, load_bundle

FAMILIES = ("sd1", "sd2", "sd2_v", "sdxl")


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder in diffusers' layout for each family."""
    return {family: build_family(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="session")
def bundles(family_folder: dict[str, Path]) -> dict[str, Bundle]:
    """Each family in fp32 on the CPU."""
    return {
        family: load_bundle(BaseModelEntry(name=family, path=folder, precision="fp32"), device="cpu")
        for family, folder in family_folder.items()
    }


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three colored noise images of different sizes and shapes."""
    random = np.random.default_rng(0)
    sizes = ((80, 64, 3), (64, 64, 3), (64, 100, 3))
    return [Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)) for size in sizes]
