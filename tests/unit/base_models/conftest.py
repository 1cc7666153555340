"""Fixtures of models to add, and of a catalog to add them to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tooling.single_files import write_published_like, write_single_file


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one model in both layouts: `parts/` and `model.safetensors`."""
    place = tmp_path_factory.mktemp("source")
    write_single_file(write_published_like(place / "parts", "sd1"), place / "model.safetensors", ema=True)
    return place


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Return the path of a catalog file that does not exist yet, in an empty folder."""
    (tmp_path / "catalog").mkdir()
    return tmp_path / "catalog" / "models.toml"
