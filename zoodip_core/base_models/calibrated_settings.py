"""Settings of the calibrated search: their values, and those that only a search in the full space has."""

from __future__ import annotations

from typing import Any

# Chosen on EmojiBooth's validation split (docs/experiments/fewer-forwards.md). None is a length in the embedding
# space, so they are the same for every base model: μ counts in standard deviations of learned tokens. On real weights
# they are untested.
CALIBRATED: dict[str, Any] = {
    "search_space": "calibrated",
    "n": 8,
    "mu": 3e-3,
    "directions": "orthogonal",
    "steps": 100,
    "measure_every": 17,  # a measurement takes 48 evaluations, as many as five steps
    "checkpoint_every": 25,
    "image_sampling": "without_replacement",
    "timesteps": "stratified",
    "t_low": 300,
    "t_high": 950,
}
FULL_SPACE_ONLY = frozenset(
    {
        "learning_rate",
        "learning_rate_schedule",
        "adam_beta1",
        "adam_beta2",
        "adam_eps",
        "estimator",
        "derivative",
        "estimate_scale",
        "subspace",
        "tau",
        "nu",
        "null_directions",
    }
)
"""Settings that Gauss–Newton steps do not have."""
