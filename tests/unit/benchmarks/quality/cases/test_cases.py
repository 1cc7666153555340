"""EmojiBooth's cases and prompts: two halves that share nothing, the same bytes each time, words that fit."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks.quality.cases.prompts import GROUNDS, PROMPTS, prompts
from benchmarks.quality.cases.subjects import REFERENCES, SHAPE_STARTS, TOKEN, Kind, cases, split
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import CAPTION_WORDS
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import shipped_world

KINDS = get_args(Kind)


def test_the_halves_are_disjoint_and_whole() -> None:
    """No subject, shape or style is both tuned and reported on, and none is lost."""
    held = shipped_world().held_out
    for items in (held.subjects, held.shapes, held.styles):
        tuning, report = split(items, "tuning"), split(items, "report")  # type: ignore[type-var]
        assert not set(tuning) & set(report)
        assert set(tuning) | set(report) == set(items)
        assert len(tuning) == len(report)


def test_both_halves_have_every_tint_and_pattern() -> None:
    """A setting tuned on one half has met the kinds of things that the other holds."""
    subjects = shipped_world().held_out.subjects
    for column in (1, 2):
        for half in ("tuning", "report"):
            seen = {subject[column] for subject in split(subjects, half)}  # type: ignore[arg-type]
            assert seen == {subject[column] for subject in subjects}


@pytest.mark.parametrize("kind", KINDS)
def test_references_are_fixed(kind: str) -> None:
    """The same case has the same pictures each time: four, on different grounds, with the token in each caption."""
    world = shipped_world()
    first, again = cases(world, kind, "report", 2), cases(world, kind, "report")
    for one, other in zip(first, again, strict=False):
        assert one.name == other.name
        assert one.captions == other.captions
        assert len(set(one.captions)) == REFERENCES
        assert all(TOKEN in caption for caption in one.captions)
        pairs = zip(one.references, other.references, strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_every_shape_starts_at_a_trained_thing() -> None:
    """A search for a held-out shape starts at a word that the model knows."""
    world = shipped_world()
    assert set(SHAPE_STARTS) == set(world.held_out.shapes)
    assert set(SHAPE_STARTS.values()) <= set(world.trained_objects)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_ask_for_what_they_show(kind: str) -> None:
    """25 different prompts over all grounds; each fits the window, with the token and in words."""
    world = shipped_world()
    assert set(GROUNDS) == set(world.backgrounds)
    for case in cases(world, kind, "report") + cases(world, kind, "tuning"):
        asked = prompts(case, world)
        assert len({prompt.template for prompt in asked}) == PROMPTS
        for prompt in asked:
            assert prompt.template.count("{}") == 1
            assert prompt.scene.background in prompt.template
            assert "{}" not in prompt.with_noun("")
            assert max(len(prompt.words.split()), len(prompt.with_noun("x").split())) <= CAPTION_WORDS


def test_a_change_differs_from_the_subject() -> None:
    """A prompt with another tint never asks for the subject's own; the first eight have both sorts of change."""
    world = shipped_world()
    for case in cases(world, "subjects", "report"):
        changed = [prompt for prompt in prompts(case, world) if prompt.changed is not None]
        assert {prompt.changed for prompt in changed} == {
            ATTRIBUTES.index(n) for n in ATTRIBUTES if "filter" in n
        } | {ATTRIBUTES.index("color")}
        tinted = [prompt for prompt in changed if prompt.changed == ATTRIBUTES.index("color")]
        assert all(prompt.scene.color not in ("", case.scene.color) for prompt in tinted)
        assert sum(prompt.changed is not None for prompt in prompts(case, world, 8)) == 2


def test_what_is_not_there_is_told() -> None:
    """An unknown kind, too many cases and too many prompts are named with what is allowed."""
    world = shipped_world()
    with pytest.raises(BenchmarkError, match=r"--kind dogs: allowed: subjects, shapes, styles"):
        cases(world, "dogs", "report")
    with pytest.raises(BenchmarkError, match=r"--subjects 13: .* allowed: 1 to 12"):
        cases(world, "subjects", "report", 13)
    with pytest.raises(BenchmarkError, match=r"--prompts 26: allowed: 1 to 25"):
        prompts(cases(world, "shapes", "report")[0], world, 26)
