"""Captions decide where a calibrated search can start, and how noisy it takes a sample to be."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.search_space import NOISE, NOISE_WITHOUT_CAPTIONS, CalibratedSearchSpace

ENTRY = Catalog.load().get("emoji")


@pytest.fixture(scope="module")
def emoji() -> Bundle:
    """Return the embedded model."""
    return load_bundle(ENTRY, device="cpu")


def _search(bundle: Bundle, subject: Subject) -> Personalization:
    settings = resolve_settings(ENTRY, bundle.family, "default", {"steps": 20, "fixed_rows": 1})
    return Personalization.begin(bundle, subject, [Image.new("RGB", (64, 64), "pink")], settings)


def _space(search: Personalization) -> CalibratedSearchSpace:
    assert isinstance(search.search, GaussNewtonSearch)
    assert isinstance(search._space, CalibratedSearchSpace)
    return search._space


def test_without_captions_the_predicted_start_is_not_compared(emoji: Bundle) -> None:
    """The backgrounds would decide the comparison. Each sample counts less."""
    captioned = _search(emoji, Subject("<x>", "dog", captions=("a photo of a <x> on white",)))
    plain = _search(emoji, Subject("<x>", "dog"))
    assert torch.equal(captioned.search.theta, plain.search.theta)
    assert [len(_space(one).other_starts) for one in (captioned, plain)] == [1, 0]
    assert [_space(one).noise for one in (captioned, plain)] == [NOISE, NOISE_WITHOUT_CAPTIONS]


def test_a_style_compares_its_starts_with_and_without_captions(emoji: Bundle) -> None:
    """No start of a style is predicted from the pictures."""
    captioned = _search(emoji, Subject("<x>", "sepia", "style", ("a dog in <x> style",)))
    plain = _search(emoji, Subject("<x>", "sepia", "style"))
    assert len(_space(captioned).other_starts) == len(_space(plain).other_starts) > 1
    assert _space(plain).noise == NOISE_WITHOUT_CAPTIONS


def test_a_noisy_sample_moves_the_token_less(emoji: Bundle) -> None:
    """The first step of the same sample is shorter without captions."""
    engine, lengths = Engine(emoji), list[float]()
    for noise in (NOISE, NOISE_WITHOUT_CAPTIONS):
        search = _search(emoji, Subject("<x>", "dog"))
        _space(search).noise = noise
        before = search.search.theta
        engine.advance([search])
        lengths.append(float((search.search.theta - before).norm()))
    assert 0 < lengths[1] < lengths[0]
