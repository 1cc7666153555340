"""SG on a search and on noise of the same size: both step together, and the search is unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.quality.cases.subjects import make_cases
from benchmarks.quality.subspace import ShadowedSearch, compare
from models.emoji.world import shipped_world
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization


@pytest.mark.slow
def test_the_shadow_leaves_the_search_alone(bundles: dict[str, Bundle]) -> None:
    """The shadowed search equals a search alone, bit for bit; its shadow differs."""
    case = replace(make_cases(shipped_world(), "subjects", "test", 1)[0], initializer="dog")
    settings = PersonalizationSettings(tau=3, fixed_rows=1)
    pair = ShadowedSearch(bundles["sd1"], case, settings)
    alone = Personalization.begin(bundles["sd1"], case.subject, case.references, settings)
    for _ in range(3):
        pair.advance()
        Engine(bundles["sd1"]).step([alone])
    assert torch.equal(pair.signal.search.theta, alone.search.theta)
    assert pair.noise.step == 3
    assert not torch.equal(pair.noise.theta, alone.search.theta)


@pytest.mark.slow
def test_a_line_after_every_update(bundles: dict[str, Bundle]) -> None:
    """Each update gives its evaluations and two shares between 1/τ and 1."""
    case = replace(make_cases(shipped_world(), "subjects", "test", 1)[0], initializer="dog")
    found = compare(bundles["sd1"], [case], PersonalizationSettings(tau=2, fixed_rows=1), updates=2)
    assert [forwards for forwards, _, _ in found] == [6, 12]
    assert all(0.5 <= share <= 1 for _, *shares in found for share in shares)
