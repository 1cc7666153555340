"""CLIP scores of the embedded model: similar images and matching prompts score higher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.diffusion.scoring import Scorer
from zoodip_core.errors import InvalidModelError

ASSETS = Path(__file__).parents[3] / "zoodip_core" / "assets"


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """Return the CLIP model that comes with the embedded base model."""
    folder = Catalog.load().get("emoji").path
    assert folder is not None
    return Scorer(folder / "scorer")


@pytest.fixture(scope="module")
def references() -> list[Image.Image]:
    """Return the four demo images of one subject."""
    return [Image.open(path).convert("RGB") for path in sorted((ASSETS / "demo").glob("*.png"))]


def test_embeddings_are_unit_vectors(scorer: Scorer, references: list[Image.Image]) -> None:
    """Embeddings have norm 1, so inner products are cosine similarities."""
    for embedded in (scorer.images(references), scorer.texts(["a photo of a cat", "a dog"])):
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(len(embedded)))


def test_images_of_one_subject_are_similar(scorer: Scorer, references: list[Image.Image]) -> None:
    """Images of one subject are more similar to each other than to plain gray."""
    gray = [Image.new("RGB", (64, 64), (128, 128, 128))]
    assert scorer.clip_i(references[:1], references[:1]) == pytest.approx(1)
    assert scorer.clip_i(references[:2], references[2:]) > scorer.clip_i(references[:2], gray)


def test_the_matching_background_scores_higher(scorer: Scorer, references: list[Image.Image]) -> None:
    """CLIP-T is higher for the true background: the first image is in the snow, the second on the grass."""
    images = references[:2]
    right = scorer.clip_t(["a photo in the snow", "a photo on the grass"], images)
    wrong = scorer.clip_t(["a photo on the grass", "a photo in the snow"], images)
    assert right > wrong


def test_a_folder_without_a_clip_model(tmp_path: Path) -> None:
    """The error names the missing file."""
    with pytest.raises(InvalidModelError, match=r"config\.json is missing"):
        Scorer(tmp_path)
