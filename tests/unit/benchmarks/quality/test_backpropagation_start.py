"""The token at which backpropagation starts."""

from __future__ import annotations

import pytest
import torch

from benchmarks.quality.cases.subjects import make_cases
from benchmarks.quality.cli import embedded_model
from benchmarks.quality.learning.methods import METHODS, make_plans
from benchmarks.quality.learning.snapshots import make_learner
from models.emoji.world import shipped_world
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.personalization.initial_token import initial_token


@pytest.mark.slow
def test_backpropagation_starts_at_the_noun_or_at_the_predicted_token() -> None:
    """`ti-predicted-0.04` starts where the calibrated search starts, other rates at the noun."""
    entry = embedded_model()
    bundle = load_bundle(entry.model_copy(update={"precision": "fp32"}), device="cpu")
    cases = make_cases(shipped_world(), "subjects", "validation", 2)
    starts = {}
    for name in ("ti-0.04", "ti-predicted-0.04", "calibrated"):
        (plan,) = make_plans(METHODS[name], entry, bundle.family, seed=0, forwards=[12], changes={})
        starts[name] = make_learner(plan, bundle, cases, None).tokens()
    nouns = torch.stack([initial_token(bundle, case.initializer, 1) for case in cases])
    assert torch.equal(starts["ti-0.04"], nouns)
    assert torch.equal(starts["ti-predicted-0.04"], starts["calibrated"])
    assert ((starts["calibrated"] - nouns).norm(dim=1) > 1).all()
