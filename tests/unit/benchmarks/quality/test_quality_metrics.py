"""EmojiBooth's figures: means over the right pairs, and a deterministic interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.quality.cases.prompts import make_prompts
from benchmarks.quality.cases.subjects import make_cases
from benchmarks.quality.metrics import (
    BACKGROUND,
    COLOR,
    STYLE_COLUMNS,
    accuracies,
    clip_i,
    interval,
    intra_prompt_similarity,
)
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import shipped_world


def _unit(*shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(1)), dim=-1)


def test_clip_i_takes_all_pairs() -> None:
    """Every reference is compared with every picture once."""
    references, drawn = _unit(3, 8), _unit(5, 8)
    pairs = [float(one @ other) for one in references for other in drawn]
    assert clip_i(references, drawn) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_accuracies_count_the_prompts_that_ask_for_them() -> None:
    """Plain prompts count all three attributes and the background; edits count the edited attribute alone."""
    world = shipped_world()
    (case,) = make_cases(world, "subjects", "test", 1)
    asked = make_prompts(case, world, 4)
    plain = [k for k, prompt in enumerate(asked) if prompt.changed is None]
    changed = [k for k, prompt in enumerate(asked) if prompt.changed is not None]
    assert len(plain) == 3
    assert len(changed) == 1
    verdicts = torch.ones(4, 2, len(ATTRIBUTES))
    verdicts[plain[0], 0, 0] = 0  # object of one picture, color of another, background of a third: of six
    verdicts[plain[1], 1, 1] = 0
    verdicts[plain[2], 0, BACKGROUND] = 0
    verdicts[changed[0], :, [c for c in range(len(ATTRIBUTES)) if c != asked[changed[0]].changed]] = 0
    verdicts[changed[0], 0, asked[changed[0]].changed] = 0
    found = accuracies(case, asked, verdicts)
    assert found == pytest.approx(
        {
            "attribute_accuracy": 4 / 6,
            "background_accuracy": 5 / 6,
            "edit_compliance": 1 / 2,
            "recolor_accuracy": 0,
        }
    )


def test_recoloring_must_keep_the_object() -> None:
    """A blob in the requested color complies without being the object; a filter requests no color."""
    world = shipped_world()
    (case,) = make_cases(world, "subjects", "test", 1)
    asked = make_prompts(case, world, 6)
    tint, look = (k for k, prompt in enumerate(asked) if prompt.changed is not None)
    assert asked[tint].changed == COLOR
    verdicts = torch.ones(6, 4, len(ATTRIBUTES))
    verdicts[tint, 0, ATTRIBUTES.index("object")] = 0
    verdicts[tint, 1, COLOR] = 0
    verdicts[tint, 2, ATTRIBUTES.index("pattern")] = 0
    verdicts[look, :, ATTRIBUTES.index("object")] = 0
    found = accuracies(case, asked, verdicts)
    assert found == pytest.approx(
        {
            "attribute_accuracy": 1,
            "background_accuracy": 1,
            "edit_compliance": 7 / 8,
            "recolor_accuracy": 1 / 4,
        }
    )


def test_a_style_is_both_filters_and_has_no_background() -> None:
    """Object and background do not count for a style; one wrong filter of two is wrong."""
    world = shipped_world()
    (case,) = make_cases(world, "styles", "test", 1)
    verdicts = torch.zeros(2, 2, len(ATTRIBUTES))
    verdicts[:, :, list(STYLE_COLUMNS)] = 1
    verdicts[0, 1, STYLE_COLUMNS[1]] = 0
    found = accuracies(case, make_prompts(case, world, 2), verdicts)
    assert found == {
        "attribute_accuracy": pytest.approx(3 / 4),
        "background_accuracy": None,
        "edit_compliance": None,
        "recolor_accuracy": None,
    }


def test_no_picture_is_compared_with_itself() -> None:
    """Similarity compares different seeds of one prompt, never a picture with itself or with another prompt's."""
    drawn = _unit(4, 3, 8)
    pairs = [float(row[i] @ row[j]) for row in drawn for i in range(3) for j in range(3) if i != j]
    assert intra_prompt_similarity(drawn) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert intra_prompt_similarity(drawn[:, :1]) is None
    assert intra_prompt_similarity(drawn[:, :1].expand(-1, 4, -1)) == pytest.approx(1, abs=1e-6)


def test_the_interval_contains_the_mean_and_is_deterministic() -> None:
    """The interval contains the mean and is deterministic; equal values give a width of zero."""
    values = [0.1, 0.4, 0.5, 0.9, 0.7, 0.2]
    low, high = interval(values)
    assert low < np.mean(values) < high
    assert min(values) <= low
    assert high <= max(values)
    assert interval(values) == (low, high)
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_the_interval_has_its_nominal_coverage() -> None:
    """About 95 of 100 intervals contain the known mean (fewer for small samples)."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = interval(random.normal(0.3, 1, 40).tolist())
        inside += low <= 0.3 <= high
    assert 0.88 <= inside / 200 <= 0.99
