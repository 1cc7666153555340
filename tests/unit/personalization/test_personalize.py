"""One personalization: bit-identical resume, equal predictions in a batch, and typed errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import (
    ImageCountError,
    InvalidCaptionError,
    InvalidCheckpointError,
    InvalidInitializerError,
    InvalidTokenError,
    LossNotFiniteError,
    StorageError,
)
from zoodip_core.personalization.checkpoint import identity, load_checkpoint, save_checkpoint
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

DOG = Subject("<x>", "dog")


def _settings(**values: Any) -> PersonalizationSettings:
    quick = {"steps": 6, "n": 2, "tau": 2, "fixed_rows": 4, "t_low": 100, "t_high": 900}
    return PersonalizationSettings.parse(quick | values)


def _advance(personalization: Personalization, steps: int) -> None:
    engine = Engine(personalization.bundle)
    for _ in range(steps):
        assert engine.step([personalization]) == [None]


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["loss_difference", "residual"])
def test_every_family_learns_a_token(
    family: str, bundles: dict[str, Bundle], pictures: list[Image.Image], derivative: str
) -> None:
    """On each family, a search with one or two vectors runs from images to a changed token."""
    bundle = bundles[family]
    for vectors in (1, 2):
        settings = _settings(vectors=vectors, derivative=derivative, steps=3)
        learned = Personalization.begin(bundle, DOG, pictures, settings)
        start = learned.vectors
        _advance(learned, 3)
        assert learned.done
        assert learned.forwards == 9
        shapes = [tuple(part.shape) for part in learned.vectors]
        assert shapes == [(vectors, width) for width in bundle.prompts.widths]
        assert all(not torch.equal(a, b) for a, b in zip(start, learned.vectors, strict=True))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_search_starts_from_the_words_of_the_initializer(
    family: str, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """One word fills all vectors; with two words, each vector starts from its own, or one from their mean."""
    bundle = bundles[family]
    for initializer, starts in (
        ("dog", ["dog", "dog"]),
        ("red dog", ["red", "dog"]),
        ("red dog", ["red dog"]),
    ):
        settings = _settings(vectors=len(starts))
        begun = Personalization.begin(bundle, Subject("<x>", initializer), pictures, settings)
        for encoder, part in zip(bundle.prompts.encoders, begun.vectors, strict=True):
            ids = [encoder.tokenizer(words, add_special_tokens=False).input_ids for words in starts]
            assert torch.equal(part, torch.stack([encoder.table[each].float().mean(dim=0) for each in ids]))


def test_the_vae_is_released(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """The VAE is released after the latents are cached."""
    before = len(bundles["sd1"].modules)
    _ = bundles["sd1"].vae
    Personalization.begin(bundles["sd1"], DOG, pictures, _settings())
    assert len(bundles["sd1"].modules) <= before
    assert bundles["sd1"].modules == [
        bundles["sd1"].denoiser.unet,
        *(encoder.model for encoder in bundles["sd1"].prompts.encoders),
    ]


@pytest.mark.slow
def test_resumed_search_is_bit_identical(
    bundles: dict[str, Bundle], pictures: list[Image.Image], tmp_path: Path
) -> None:
    """A search resumed from a checkpoint of any step gives the same bits as an uninterrupted one."""
    bundle, settings = bundles["sd1"], _settings()
    whole = Personalization.begin(bundle, DOG, pictures, settings)
    _advance(whole, 6)
    job = identity(DOG, settings, bundle.fingerprint, pictures)
    for stop in (1, 3, 4):
        first = Personalization.begin(bundle, DOG, pictures, settings)
        _advance(first, stop)
        save_checkpoint(first.state(), tmp_path / "c.safetensors", identity=job)
        state = load_checkpoint(tmp_path / "c.safetensors", identity=job)
        second = Personalization.begin(bundle, DOG, pictures, settings, state)
        assert second.step == stop
        assert second.fixed_loss_start == whole.fixed_loss_start
        _advance(second, 6 - stop)
        assert torch.equal(second.search.theta, whole.search.theta)


@pytest.mark.slow
def test_batched_searches_equal_single_ones(
    family: str, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """Three searches in one forward pass get the predictions that each gets alone."""
    bundle = bundles[family]
    subjects = [Subject("<x>", "dog"), Subject("<y>", "cat"), Subject("<z>", "house", "style")]
    settings = [_settings(seed=k, n=k + 1) for k in range(3)]
    jobs = [Personalization.begin(bundle, s, pictures, c) for s, c in zip(subjects, settings, strict=True)]
    engine = Engine(bundle)
    together = engine.evaluate([job.build_request() for job in jobs])
    for job, prediction in zip(jobs, together, strict=True):
        (alone,) = engine.evaluate([job.build_request()])
        torch.testing.assert_close(prediction, alone, rtol=1e-4, atol=1e-5)


def test_a_failing_search_does_not_affect_others(
    bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """A NaN in one search fails only that search and leaves its state unchanged."""
    good = Personalization.begin(bundles["sd1"], DOG, pictures, _settings())
    bad = Personalization.begin(bundles["sd1"], DOG, pictures, _settings(seed=1))
    mean = bad.references.posteriors.mean
    bad.references = type(bad.references)(
        type(bad.references.posteriors)(mean * float("nan"), bad.references.posteriors.std),
        bad.references.captions,
        bad.references.schedule,
    )
    errors = Engine(bundles["sd1"]).step([good, bad])
    assert errors[0] is None
    assert isinstance(errors[1], LossNotFiniteError)
    assert (good.step, bad.step) == (1, 0)


def test_validation_loss_is_reproducible(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """The validation set does not depend on the seed of the search or on earlier measurements."""
    first = Personalization.begin(bundles["sd1"], DOG, pictures, _settings(seed=1))
    second = Personalization.begin(bundles["sd1"], DOG, pictures, _settings(seed=2))
    assert first.measure_validation_loss() == first.measure_validation_loss() == second.fixed_loss_start


@pytest.mark.parametrize(
    ("subject", "count", "error", "field"),
    [
        (Subject("<x>", "dog"), 0, ImageCountError, "images"),
        (Subject("<x>", "dog"), 17, ImageCountError, "images"),
        (Subject("dog", "dog"), 1, InvalidTokenError, "token"),
        (Subject("<X y>", "dog"), 1, InvalidTokenError, "token"),
        (Subject("<x>", " "), 1, InvalidInitializerError, "initializer"),
        (Subject("<x>", "dog", "object", ("a dog",)), 1, InvalidCaptionError, "captions"),
        (Subject("<x>", "dog", "object", ("a <x>", "a <x>")), 1, InvalidCaptionError, "captions"),
    ],
)
def test_a_bad_request_names_its_field(
    bundles: dict[str, Bundle], subject: Subject, count: int, error: type[Exception], field: str
) -> None:
    """Each invalid request gives a typed error with the field, before the search starts."""
    images = [Image.new("RGB", (64, 64), "red")] * count
    with pytest.raises(error) as caught:
        Personalization.begin(bundles["sd1"], subject, images, _settings())
    assert getattr(caught.value, "field", None) == field


def test_checkpoint_of_another_run_is_rejected(
    bundles: dict[str, Bundle], pictures: list[Image.Image], tmp_path: Path
) -> None:
    """A checkpoint of other settings, images or weights is rejected, as is a damaged or missing file."""
    settings = _settings()
    job = Personalization.begin(bundles["sd1"], DOG, pictures, settings)
    path = tmp_path / "c.safetensors"
    fingerprint = bundles["sd1"].fingerprint
    with pytest.raises(InvalidCheckpointError, match="nothing to resume"):
        load_checkpoint(path, identity="x")
    save_checkpoint(job.state(), path, identity=identity(DOG, settings, fingerprint, pictures))
    for other in (
        identity(DOG, _settings(seed=9), fingerprint, pictures),
        identity(DOG, settings, fingerprint, pictures[:2]),
        identity(DOG, settings, "another model", pictures),
    ):
        with pytest.raises(
            InvalidCheckpointError, match="belongs to other images, other settings or another base model"
        ):
            load_checkpoint(path, identity=other)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InvalidCheckpointError, match="damaged"):
        load_checkpoint(path, identity=identity(DOG, settings, fingerprint, pictures))


def test_checkpoint_in_an_unwritable_folder(tmp_path: Path) -> None:
    """A path whose folder is a file gives a storage error and leaves no files behind."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        save_checkpoint({"a": torch.zeros(1)}, tmp_path / "file" / "c.safetensors", identity="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
