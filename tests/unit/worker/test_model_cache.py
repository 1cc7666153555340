"""Which base models a worker keeps in memory, on narrow real ones."""

from __future__ import annotations

import shutil
import weakref
from functools import partial
from pathlib import Path

import pytest

from tests.tooling.models import build_family
from worker.model_cache import ModelCache
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.errors import InvalidModelError, UnknownBaseModelError

NAMES = ("a", "b", "c")
_load = partial(load_bundle, device="cpu")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Three base models of one size."""
    folder = tmp_path_factory.mktemp("bundles")
    tables = []
    for seed, name in enumerate(NAMES):
        build_family(folder / name, "sd1", seed=seed)
        tables.append(f'[[base_models]]\nname = "{name}"\npath = "{name}"\nprecision = "fp32"\n')
    (folder / "catalogue.toml").write_text("".join(tables))
    return Catalog.load(folder / "catalogue.toml")


@pytest.fixture
def one_mb(catalog: Catalog) -> float:
    """What one of them takes with its VAE."""
    path = catalog.get("a").path
    assert path is not None
    return weights_mb(path, "fp32")


@pytest.mark.slow
def test_the_size_told_from_the_files_is_that_in_memory(catalog: Catalog, one_mb: float) -> None:
    """Told before loading, measured after, with the VAE that is loaded on first use."""
    bundles = ModelCache(catalog, 1e6, _load)
    assert bundles.get("a", ()).vae is not None
    assert bundles.sizes_mb()["a"] == pytest.approx(one_mb, rel=0.02)


@pytest.mark.slow
def test_the_longest_unused_goes_first(catalog: Catalog, one_mb: float) -> None:
    """Room for two: what was used lately stays, and what is kept is not loaded again."""
    loaded: list[str] = []

    def load(entry: BaseModelEntry) -> Bundle:
        loaded.append(entry.name)
        return _load(entry)

    bundles = ModelCache(catalog, 2.1 * one_mb, load)
    for name in ("a", "b", "a", "c", "a", "c"):
        assert bundles.get(name, ()).name == name
    assert list(bundles.sizes_mb()) == ["a", "c"]
    assert loaded == ["a", "b", "c"]


@pytest.mark.slow
def test_room_is_made_before_a_model_is_loaded(catalog: Catalog, one_mb: float) -> None:
    """While one loads, the one that goes has left memory already: the budget holds at the peak too."""
    made: list[weakref.ref[Bundle]] = []
    alive: list[int] = []

    def load(entry: BaseModelEntry) -> Bundle:
        alive.append(sum(one() is not None for one in made))
        bundle = _load(entry)
        made.append(weakref.ref(bundle))
        return bundle

    bundles = ModelCache(catalog, 1.1 * one_mb, load)
    for name in NAMES:
        bundles.get(name, ())
    assert alive == [0, 0, 0]


@pytest.mark.slow
def test_a_model_in_use_stays_and_is_not_loaded_twice(catalog: Catalog, one_mb: float) -> None:
    """Beyond the budget too: idle ones go, and the search's own is given again; the last one stays at any size."""
    bundles = ModelCache(catalog, 1.1 * one_mb, _load)
    used = bundles.get("a", ())
    bundles.get("b", {"a"})
    bundles.get("c", {"a"})
    assert set(bundles.sizes_mb()) == {"a", "c"}
    bundles.trim({"a"})
    assert list(bundles.sizes_mb()) == ["a"]
    bundles.trim(())
    assert bundles.get("a", {"a"}) is used
    bundles.get("b", ())
    assert list(bundles.sizes_mb()) == ["b"]


@pytest.mark.slow
def test_what_cannot_be_loaded_leaves_the_rest(catalog: Catalog, one_mb: float, tmp_path: Path) -> None:
    """An unknown name and a folder without weights: an error, and what was there is there."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/model_index.json").write_text("{}")
    folder = catalog.get("a").path
    assert folder is not None
    cut = shutil.copytree(folder, tmp_path / "cut")
    for weights in (cut / "unet").glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-100])
    broken = tuple(BaseModelEntry(name=name, path=tmp_path / name) for name in ("bare", "cut"))
    bundles = ModelCache(Catalog((*catalog.entries, *broken)), 1.1 * one_mb, _load)
    kept = bundles.get("a", ())
    with pytest.raises(UnknownBaseModelError):
        bundles.get("nope", ())
    for name in ("bare", "cut"):
        with pytest.raises(InvalidModelError):
            bundles.get(name, ())
    assert bundles.get("a", ()) is kept
