"""Model cache: loading, eviction and memory budget, with narrow real base models."""

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
from zoodip_core.config import PartPrecisions
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.errors import InvalidModelError, UnknownBaseModelError

NAMES = ("a", "b", "c")
_load = partial(load_bundle, device="cpu")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Return a catalog of three base models of equal size."""
    folder = tmp_path_factory.mktemp("models")
    tables = []
    for seed, name in enumerate(NAMES):
        build_family(folder / name, "sd1", seed=seed)
        tables.append(f'[[base_models]]\nname = "{name}"\npath = "{name}"\nprecision = "fp32"\n')
    (folder / "catalog.toml").write_text("".join(tables))
    return Catalog.load(folder / "catalog.toml")


@pytest.fixture
def model_mb(catalog: Catalog) -> float:
    """Return the memory of one base model with its VAE, in megabytes."""
    path = catalog.get("a").path
    assert path is not None
    return weights_mb(path, PartPrecisions.of("fp32"))


@pytest.mark.slow
def test_the_size_estimated_from_files_matches_memory(catalog: Catalog, model_mb: float) -> None:
    """The estimate before loading matches the measured size, with the VAE that is loaded on first use."""
    cache = ModelCache(catalog, 1e6, _load)
    assert cache.get("a", ()).vae is not None
    assert cache.sizes_mb()["a"] == pytest.approx(model_mb, rel=0.02)


@pytest.mark.slow
def test_the_least_recently_used_model_is_evicted_first(catalog: Catalog, model_mb: float) -> None:
    """With room for two models, the recently used ones stay, and cached models are not loaded again."""
    loaded: list[str] = []

    def load(entry: BaseModelEntry) -> Bundle:
        loaded.append(entry.name)
        return _load(entry)

    cache = ModelCache(catalog, 2.1 * model_mb, load)
    for name in ("a", "b", "a", "c", "a", "c"):
        assert cache.get(name, ()).name == name
    assert list(cache.sizes_mb()) == ["a", "c"]
    assert loaded == ["a", "b", "c"]


@pytest.mark.slow
def test_a_model_is_evicted_before_another_is_loaded(catalog: Catalog, model_mb: float) -> None:
    """The evicted model has left memory when the next one loads, so the budget also holds at the peak."""
    loaded: list[weakref.ref[Bundle]] = []
    alive: list[int] = []

    def load(entry: BaseModelEntry) -> Bundle:
        alive.append(sum(one() is not None for one in loaded))
        bundle = _load(entry)
        loaded.append(weakref.ref(bundle))
        return bundle

    cache = ModelCache(catalog, 1.1 * model_mb, load)
    for name in NAMES:
        cache.get(name, ())
    assert alive == [0, 0, 0]


@pytest.mark.slow
def test_a_model_in_use_stays_and_is_not_loaded_twice(catalog: Catalog, model_mb: float) -> None:
    """Above the budget only idle models are evicted; the only cached model stays, whatever its size."""
    cache = ModelCache(catalog, 1.1 * model_mb, _load)
    used = cache.get("a", ())
    cache.get("b", {"a"})
    cache.get("c", {"a"})
    assert set(cache.sizes_mb()) == {"a", "c"}
    cache.trim({"a"})
    assert list(cache.sizes_mb()) == ["a"]
    cache.trim(())
    assert cache.get("a", {"a"}) is used
    cache.get("b", ())
    assert list(cache.sizes_mb()) == ["b"]


@pytest.mark.slow
def test_a_failed_load_keeps_cached_models(catalog: Catalog, model_mb: float, tmp_path: Path) -> None:
    """An unknown name, a folder without weights and truncated weights raise errors; cached models stay."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/model_index.json").write_text("{}")
    folder = catalog.get("a").path
    assert folder is not None
    cut = shutil.copytree(folder, tmp_path / "cut")
    for weights in (cut / "unet").glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-100])
    broken = tuple(BaseModelEntry(name=name, path=tmp_path / name) for name in ("bare", "cut"))
    cache = ModelCache(Catalog((*catalog.entries, *broken)), 1.1 * model_mb, _load)
    kept = cache.get("a", ())
    with pytest.raises(UnknownBaseModelError):
        cache.get("nope", ())
    for name in ("bare", "cut"):
        with pytest.raises(InvalidModelError):
            cache.get(name, ())
    assert cache.get("a", ()) is kept
