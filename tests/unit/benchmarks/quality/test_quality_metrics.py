"""EmojiBooth's figures: means over the right pairs, and an interval that can be had again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.quality.cases.prompts import prompts
from benchmarks.quality.cases.subjects import cases
from benchmarks.quality.metrics import GROUND, STYLE_COLUMNS, TINT, alike, clip_i, interval, shares
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import shipped_world


def _unit(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(1)), dim=-1)


def test_clip_i_takes_all_pairs() -> None:
    """Every reference meets every drawn picture once."""
    references, drawn = _unit(3, 8), _unit(5, 8)
    pairs = [float(one @ other) for one in references for other in drawn]
    assert clip_i(references, drawn) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_shares_are_of_the_prompts_that_ask_for_them() -> None:
    """All three attributes at once on plain prompts, the changed one alone on the others, the ground apart."""
    world = shipped_world()
    (case,) = cases(world, "subjects", "report", 1)
    asked = prompts(case, world, 4)
    plain = [k for k, prompt in enumerate(asked) if prompt.changed is None]
    changed = [k for k, prompt in enumerate(asked) if prompt.changed is not None]
    assert len(plain) == 3
    assert len(changed) == 1
    verdicts = torch.ones(4, 2, len(ATTRIBUTES))
    verdicts[plain[0], 0, 0] = (
        0  # the thing of one picture, the tint of another, the ground of a third: of six
    )
    verdicts[plain[1], 1, 1] = 0
    verdicts[plain[2], 0, GROUND] = 0
    verdicts[changed[0], :, [c for c in range(len(ATTRIBUTES)) if c != asked[changed[0]].changed]] = 0
    verdicts[changed[0], 0, asked[changed[0]].changed] = 0
    found = shares(case, asked, verdicts)
    assert found == pytest.approx({"right": 4 / 6, "ground": 5 / 6, "change": 1 / 2, "retinted": 0})


def test_another_tint_must_leave_the_thing() -> None:
    """A blob in the asked tint obeys, and is not the thing; a look of the whole picture asks for no tint."""
    world = shipped_world()
    (case,) = cases(world, "subjects", "report", 1)
    asked = prompts(case, world, 6)
    tint, look = (k for k, prompt in enumerate(asked) if prompt.changed is not None)
    assert asked[tint].changed == TINT
    verdicts = torch.ones(6, 4, len(ATTRIBUTES))
    verdicts[tint, 0, ATTRIBUTES.index("object")] = 0
    verdicts[tint, 1, TINT] = 0
    verdicts[tint, 2, ATTRIBUTES.index("pattern")] = 0
    verdicts[look, :, ATTRIBUTES.index("object")] = 0
    found = shares(case, asked, verdicts)
    assert found == pytest.approx({"right": 1, "ground": 1, "change": 7 / 8, "retinted": 1 / 4})


def test_a_style_is_both_looks_and_has_no_ground() -> None:
    """Thing and ground do not count; one wrong look of two is wrong."""
    world = shipped_world()
    (case,) = cases(world, "styles", "report", 1)
    verdicts = torch.zeros(2, 2, len(ATTRIBUTES))
    verdicts[:, :, list(STYLE_COLUMNS)] = 1
    verdicts[0, 1, STYLE_COLUMNS[1]] = 0
    found = shares(case, prompts(case, world, 2), verdicts)
    assert found == {"right": pytest.approx(3 / 4), "ground": None, "change": None, "retinted": None}


def test_no_seed_meets_itself() -> None:
    """Diversity compares different seeds of one prompt, never a picture with itself or another prompt's."""
    drawn = _unit(4, 3, 8)
    pairs = [float(row[i] @ row[j]) for row in drawn for i in range(3) for j in range(3) if i != j]
    assert alike(drawn) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert alike(drawn[:, :1]) is None
    assert alike(drawn[:, :1].expand(-1, 4, -1)) == pytest.approx(1, abs=1e-6)


def test_the_interval_holds_the_mean_and_can_be_had_again() -> None:
    """The same values give the same ends, around the mean; equal values give no width."""
    values = [0.1, 0.4, 0.5, 0.9, 0.7, 0.2]
    low, high = interval(values)
    assert low < np.mean(values) < high
    assert min(values) <= low
    assert high <= max(values)
    assert interval(values) == (low, high)
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Of samples of a known mean, roughly 95 in 100 have it in their interval (fewer for small samples)."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = interval(random.normal(0.3, 1, 40).tolist())
        inside += low <= 0.3 <= high
    assert 0.88 <= inside / 200 <= 0.99
