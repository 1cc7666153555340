"""Concepts match only the base model that they were learned on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoodip_core.artifact import load_concept, save_concept
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import InvalidInputError, ModelMismatchError
from zoodip_core.personalization.concept_conversion import concept_vectors, to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

SETTINGS = PersonalizationSettings.parse({"steps": 2, "n": 1, "fixed_rows": 2, "vectors": 2, "seed": 4})


def _learn(bundle: Bundle, pictures: list[Image.Image], token: str = "<x>") -> Personalization:
    learned = Personalization.begin(bundle, Subject(token, "dog"), pictures, SETTINGS)
    while not learned.done:
        Engine(bundle).step([learned])
    return learned


@pytest.mark.slow
def test_a_saved_concept_draws_the_same_image(
    family: str, bundles: dict[str, Bundle], pictures: list[Image.Image], tmp_path: Path
) -> None:
    """For each family, a concept read from its file draws the same image as the vectors of the search."""
    bundle = bundles[family]
    learned = _learn(bundle, pictures)
    save_concept(to_concept(learned, 0.5), tmp_path / "x.safetensors")
    loaded = load_concept(tmp_path / "x.safetensors")
    settings = GenerationSettings(prompt="a photo of a <x>", steps=2)
    (ours,) = generate(bundle, settings, learned.concept_vectors)
    (theirs,) = generate(bundle, settings, concept_vectors([loaded], bundle))
    assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))


def test_provenance_reproduces_the_search(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """A search with the stored settings gives bit-identical embeddings."""
    bundle = bundles["sd1"]
    concept = to_concept(_learn(bundle, pictures), 0.5)
    assert concept.provenance is not None
    settings = PersonalizationSettings.parse(concept.provenance.settings)
    subject = Subject(concept.token, concept.provenance.initializer, concept.kind)
    again = Personalization.begin(bundle, subject, pictures, settings)
    while not again.done:
        Engine(bundle).step([again])
    assert np.array_equal(to_concept(again, 0.5).embeddings["clip"], concept.embeddings["clip"])


def test_another_base_model_is_an_error(
    bundles: dict[str, Bundle], family_folder: dict[str, Path], pictures: list[Image.Image]
) -> None:
    """Other widths and other weights are rejected; another precision of the same weights is accepted."""
    concept = to_concept(_learn(bundles["sd1"], pictures), 0.5)
    with pytest.raises(ModelMismatchError, match="width"):
        concept_vectors([concept], bundles["sdxl"])
    with pytest.raises(ModelMismatchError, match=r"got <x> of sd1 .*; expected the base model"):
        concept_vectors([concept], bundles["sd2"])
    entry = BaseModelEntry(name="sd1", path=family_folder["sd1"], precision="int8")
    assert set(concept_vectors([concept], load_bundle(entry, device="cpu"))) == {"<x>"}


def test_a_token_given_twice(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """Two concepts with the same token are ambiguous, so they are rejected."""
    concept = to_concept(_learn(bundles["sd1"], pictures), 0.5)
    with pytest.raises(InvalidInputError, match="concept: got <x> twice; expected each token once"):
        concept_vectors([concept, concept], bundles["sd1"])
