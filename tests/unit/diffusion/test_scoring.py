"""CLIP scores of the embedded pair: what is alike scores higher than what is not."""

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
    """The pair that comes with the embedded model."""
    folder = Catalog.load().get("emoji").path
    assert folder is not None
    return Scorer(folder / "scorer")


@pytest.fixture(scope="module")
def references() -> list[Image.Image]:
    """Four pictures of one thing."""
    return [Image.open(path).convert("RGB") for path in sorted((ASSETS / "demo").glob("*.png"))]


def test_embeddings_are_unit_vectors(scorer: Scorer, references: list[Image.Image]) -> None:
    """Cosines are plain inner products."""
    for embedded in (scorer.images(references), scorer.texts(["a photo of a cat", "a dog"])):
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(len(embedded)))


def test_the_same_thing_is_alike(scorer: Scorer, references: list[Image.Image]) -> None:
    """Pictures of one thing are closer to each other than to plain grey."""
    grey = [Image.new("RGB", (64, 64), (128, 128, 128))]
    assert scorer.clip_i(references[:1], references[:1]) == pytest.approx(1)
    assert scorer.clip_i(references[:2], references[2:]) > scorer.clip_i(references[:2], grey)


def test_the_right_ground_fits_better(scorer: Scorer, references: list[Image.Image]) -> None:
    """CLIP-T prefers the ground that is there: the first picture is in the snow, the second on the grass."""
    pictures = references[:2]
    right = scorer.clip_t(["a photo in the snow", "a photo on the grass"], pictures)
    wrong = scorer.clip_t(["a photo on the grass", "a photo in the snow"], pictures)
    assert right > wrong


def test_a_folder_without_a_pair(tmp_path: Path) -> None:
    """A missing CLIP model is named."""
    with pytest.raises(InvalidModelError, match=r"config\.json is missing"):
        Scorer(tmp_path)
