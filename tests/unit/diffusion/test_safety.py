"""Safety checker: flagged images are withheld and never changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from tests.tooling.safety_checkers import FLAGS_ALL, FLAGS_NONE, add_safety_checker, set_threshold, similarity
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.base_models.safety_checker import safety_checker_state
from zoodip_core.config import GenerationSettings, PartPrecisions
from zoodip_core.diffusion.generation import GeneratedImage, ImageBatch, generate, generate_together
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.safety import SafetyChecker
from zoodip_core.errors import ContentFilteredError, InvalidModelError

pytestmark = pytest.mark.slow

SETTINGS = GenerationSettings(prompt="a dog", n=4, steps=2, seed=3)


@pytest.fixture
def folder(family_folder: dict[str, Path], tmp_path: Path) -> Path:
    """Return an SD1 pipeline with a safety checker that flags nothing."""
    shutil.copytree(family_folder["sd1"], tmp_path / "model")
    return add_safety_checker(tmp_path / "model", FLAGS_NONE)


def _load(folder: Path, *, safety_checker: bool = True) -> Bundle:
    entry = BaseModelEntry(name="x", path=folder, precision="fp32")
    return load_bundle(entry, device="cpu", safety_checker=safety_checker)


def _checker(folder: Path) -> SafetyChecker:
    return SafetyChecker(folder, torch.device("cpu"))


def _scores(folder: Path, images: list[GeneratedImage]) -> list[float]:
    checker = _checker(folder)
    return [similarity(checker, one.image) for one in images]


def test_a_checker_that_flags_nothing_changes_nothing(folder: Path, bundles: dict[str, Bundle]) -> None:
    """The images are those of the same model without its checker."""
    checked = _load(folder)
    assert checked.safety_checker is not None
    assert checked.safety_checker.model in checked.modules
    for one, other in zip(generate(checked, SETTINGS), generate(bundles["sd1"], SETTINGS), strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.seed == other.seed


def test_only_flagged_images_are_withheld(folder: Path, bundles: dict[str, Bundle]) -> None:
    """The other images keep their seeds and pixels; several prompts of a batch keep their own images."""
    plain = generate(bundles["sd1"], SETTINGS)
    scores = _scores(folder, plain)
    first, second = sorted(set(scores))[-2:]
    set_threshold(folder, (first + second) / 2)  # the image with the highest similarity is flagged
    flagged = scores.index(second)
    bundle = replace(bundles["sd1"], safety_checker=_checker(folder))
    batch = ImageBatch(bundle, [SETTINGS])
    while not batch.done:
        batch.advance()
    assert batch.withheld == [SETTINGS.seed + flagged]
    assert batch.drawn[flagged] is None
    kept = [one for k, one in enumerate(plain) if k != flagged]
    assert [(one.seed, one.image.tobytes()) for one in batch.images] == [
        (one.seed, one.image.tobytes()) for one in kept
    ]
    single = [SETTINGS.model_copy(update={"n": 1, "seed": SETTINGS.seed + k}) for k in range(4)]
    assert [len(images) for images in generate_together(bundle, single)] == [
        int(k != flagged) for k in range(4)
    ]


def test_if_all_images_are_flagged_the_generation_fails(folder: Path, bundles: dict[str, Bundle]) -> None:
    """The error has the code `content_filtered`, and repeating the same job does not help."""
    set_threshold(folder, FLAGS_ALL)
    with pytest.raises(ContentFilteredError) as error:
        generate(replace(bundles["sd1"], safety_checker=_checker(folder)), SETTINGS)
    assert (error.value.code, error.value.retryable) == ("content_filtered", False)


def test_a_flagged_partial_image_is_withheld(folder: Path, bundles: dict[str, Bundle]) -> None:
    """The estimate of an image is checked like the image."""
    set_threshold(folder, FLAGS_ALL)
    batch = ImageBatch(replace(bundles["sd1"], safety_checker=_checker(folder)), [SETTINGS])
    batch.advance()
    assert batch.partial_image() is None


@pytest.mark.slow
def test_the_same_images_are_flagged_as_in_diffusers(folder: Path, bundles: dict[str, Bundle]) -> None:
    """A published checker, whose names transformers has changed since, gives the decisions of diffusers."""
    plain = generate(bundles["sd1"], SETTINGS)
    scores = sorted(_scores(folder, plain))
    set_threshold(folder, (scores[1] + scores[2]) / 2)
    ours = [_checker(folder).flags(one.image) for one in plain]
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pixels = np.stack([np.asarray(one.image, np.float32) / 255 for one in plain])
    _, theirs = pipeline.run_safety_checker(pixels, torch.device("cpu"), torch.float32)
    assert ours == theirs
    assert set(ours) == {True, False}


def test_a_model_without_a_checker_draws(family_folder: dict[str, Path]) -> None:
    """The setting has no effect there, and the state says so."""
    folder = family_folder["sdxl"]
    bundle = _load(folder)
    assert bundle.safety_checker is None
    assert len(generate(bundle, SETTINGS)) == 4
    assert safety_checker_state(folder, enabled=True) == "missing"
    assert safety_checker_state(folder, enabled=False) == "off"


def test_the_state_and_the_memory_count_the_checker(folder: Path) -> None:
    """Its memory counts only if it is loaded."""
    assert safety_checker_state(folder, enabled=True) == "on"
    fp32 = PartPrecisions.of("fp32")
    parameters = sum(parameter.numel() for parameter in _checker(folder).model.parameters())
    difference = weights_mb(folder, fp32, safety_checker=True) - weights_mb(folder, fp32)
    assert difference == pytest.approx(4 * parameters / 1e6, rel=0.01)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("safety_checker/config.json", "safety_checker: got no safety_checker/config.json in"),
        ("safety_checker/model.safetensors", r"got pytorch_model.bin in .*; expected model.safetensors"),
        ("feature_extractor/preprocessor_config.json", "got no feature_extractor/preprocessor_config.json"),
    ],
)
def test_an_incomplete_checker_is_an_error(folder: Path, missing: str, message: str) -> None:
    """A model that names a checker never draws unchecked images because a file is missing."""
    (folder / missing).unlink()
    (folder / "safety_checker" / "pytorch_model.bin").touch()
    with pytest.raises(InvalidModelError, match=message):
        _load(folder)


def test_it_is_off_by_default(folder: Path) -> None:
    """Without the setting, a model that ships a checker draws unchecked images."""
    set_threshold(folder, FLAGS_ALL)
    bundle = load_bundle(BaseModelEntry(name="x", path=folder, precision="fp32"), device="cpu")
    assert bundle.safety_checker is None
    assert len(generate(bundle, SETTINGS)) == 4


def test_a_damaged_checker_is_an_error(folder: Path) -> None:
    """A tensor that is missing is not replaced by random numbers."""
    path = folder / "safety_checker/config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    with pytest.raises(InvalidModelError, match="is missing"):
        _load(folder)
