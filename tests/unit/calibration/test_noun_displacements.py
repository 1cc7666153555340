"""Displacements from noun to noun: their covariance, and that a calibration reaches other nouns."""

from __future__ import annotations

import pytest
import torch

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.vocabulary import vocabulary
from zoodip_core.calibration.noun_displacements import SHARE, noun_displacements
from zoodip_core.calibration.pseudo_subjects import choose_nouns
from zoodip_core.calibration_file import Calibration
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.personalization.initial_token import initial_token


@pytest.fixture(scope="module")
def emoji() -> Bundle:
    """Return the embedded model."""
    return load_bundle(Catalog.load().get("emoji"), device="cpu")


def test_rows_are_the_covariance_of_nouns_scaled_to_the_moves(
    bundles: dict[str, Bundle],
) -> None:
    """The mean square is a share of that of the moves; SDXL's rows hold the embeddings of both encoders."""
    nouns = ["dog", "cat", "car"]
    for name, bundle in bundles.items():
        tokens = torch.stack([initial_token(bundle, noun, 1) for noun in nouns])
        moves = torch.randn(5, tokens.shape[1], generator=torch.Generator().manual_seed(0))
        rows = noun_displacements(bundle, nouns, moves)
        assert float(rows.square().sum()) == pytest.approx(SHARE * float(moves.square().sum()), rel=1e-4)
        between, along = tokens[0] - tokens[1], rows[0] - rows[1]
        assert float(torch.cosine_similarity(between, along, dim=0)) == pytest.approx(1.0, abs=1e-5), name


def test_shipped_calibration_reaches_other_nouns(emoji: Bundle) -> None:
    """Nearly all of the way from a noun to another one is along the principal directions."""
    assert emoji.calibration is not None
    shipped = Calibration.load(
        emoji.calibration, weights_fingerprint=emoji.weights_fingerprint, dimensions=192, statistics=32
    )
    nouns = choose_nouns(vocabulary(emoji.folder))
    tokens = torch.stack([initial_token(emoji, noun, 1) for noun in nouns])
    ways = tokens - tokens.roll(1, dims=0)
    reached = (ways @ shipped.basis.T).square().sum() / ways.square().sum()
    assert float(reached) > 0.9
