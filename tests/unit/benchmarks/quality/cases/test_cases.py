"""EmojiBooth's cases and prompts: disjoint splits, deterministic references, prompts that fit."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks.quality.cases.prompts import BACKGROUNDS, PROMPTS, make_prompts
from benchmarks.quality.cases.protocols import TOKEN
from benchmarks.quality.cases.subjects import (
    REFERENCES,
    SHAPE_INITIALIZERS,
    CaseKind,
    make_cases,
    split_items,
)
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import CAPTION_WORDS
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import shipped_world

KINDS = get_args(CaseKind)


def test_the_splits_are_disjoint_and_complete() -> None:
    """No subject, shape or style is in both splits, and none is missing."""
    held = shipped_world().held_out
    for items in (held.subjects, held.shapes, held.styles):
        validation, test = split_items(items, "validation"), split_items(items, "test")  # type: ignore[type-var]
        assert not set(validation) & set(test)
        assert set(validation) | set(test) == set(items)
        assert len(validation) == len(test)


def test_both_splits_have_every_color_and_pattern() -> None:
    """Each split has all colors and patterns of the list."""
    subjects = shipped_world().held_out.subjects
    for column in (1, 2):
        for split in ("validation", "test"):
            seen = {subject[column] for subject in split_items(subjects, split)}  # type: ignore[arg-type]
            assert seen == {subject[column] for subject in subjects}


@pytest.mark.parametrize("kind", KINDS)
def test_references_are_fixed(kind: str) -> None:
    """A case always has the same four references, on different backgrounds, with the token in each caption."""
    world = shipped_world()
    first, again = make_cases(world, kind, "test", 2), make_cases(world, kind, "test")
    for one, other in zip(first, again, strict=False):
        assert one.name == other.name
        assert one.captions == other.captions
        assert len(set(one.captions)) == REFERENCES
        assert all(TOKEN in caption for caption in one.captions)
        pairs = zip(one.references, other.references, strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_every_shape_starts_from_a_trained_word() -> None:
    """A search for a held-out shape starts from a trained word."""
    world = shipped_world()
    assert set(SHAPE_INITIALIZERS) == set(world.held_out.shapes)
    assert set(SHAPE_INITIALIZERS.values()) <= set(world.trained_objects)


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_ask_for_what_they_show(kind: str) -> None:
    """25 different prompts cover all backgrounds; each fits the context, with the token and in words."""
    world = shipped_world()
    assert set(BACKGROUNDS) == set(world.backgrounds)
    for case in make_cases(world, kind, "test") + make_cases(world, kind, "validation"):
        asked = make_prompts(case, world)
        assert len({prompt.template for prompt in asked}) == PROMPTS
        for prompt in asked:
            assert prompt.template.count("{}") == 1
            assert prompt.scene.background in prompt.template
            assert "{}" not in prompt.with_noun("")
            assert max(len(prompt.words.split()), len(prompt.with_noun("x").split())) <= CAPTION_WORDS


def test_a_change_differs_from_the_subject() -> None:
    """A recolor prompt never requests the subject's own color; the first eight prompts have both kinds of edit."""
    world = shipped_world()
    for case in make_cases(world, "subjects", "test"):
        changed = [prompt for prompt in make_prompts(case, world) if prompt.changed is not None]
        assert {prompt.changed for prompt in changed} == {
            ATTRIBUTES.index(n) for n in ATTRIBUTES if "filter" in n
        } | {ATTRIBUTES.index("color")}
        tinted = [prompt for prompt in changed if prompt.changed == ATTRIBUTES.index("color")]
        assert all(prompt.scene.color not in ("", case.scene.color) for prompt in tinted)
        assert sum(prompt.changed is not None for prompt in make_prompts(case, world, 8)) == 2


def test_captions_name_the_color() -> None:
    """The first captions have the color before the token; the pictures stay."""
    world = shipped_world()
    plain, named = (make_cases(world, "subjects", "test", 1, color_captions=count)[0] for count in (0, 2))
    color = plain.scene.color
    assert [color in one for one in named.captions] == [True, True, False, False]
    assert [one.replace(f"{color} <", "<") for one in named.captions] == list(plain.captions)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(named.references, plain.references, strict=True))


def test_templates_replace_captions() -> None:
    """The subject is what a user gives without captions."""
    (case,) = make_cases(shipped_world(), "subjects", "test", 1, templates=True)
    assert case.subject.captions is None
    with pytest.raises(BenchmarkError, match=r"--templates: got with --color-captions; expected one of them"):
        make_cases(shipped_world(), "subjects", "test", color_captions=2, templates=True)


def test_bad_selections_are_refused() -> None:
    """An unknown kind, too many cases and too many prompts are refused with the expected values."""
    world = shipped_world()
    with pytest.raises(BenchmarkError, match=r"--kind: got dogs; expected subjects, shapes, styles"):
        make_cases(world, "dogs", "test")
    with pytest.raises(BenchmarkError, match=r"--subjects: got 13; expected 1 to 12"):
        make_cases(world, "subjects", "test", 13)
    for kind, count in (("subjects", 5), ("subjects", -1), ("styles", 1)):
        with pytest.raises(
            BenchmarkError, match=rf"--color-captions: got {count}; expected 0 to 4 with --kind"
        ):
            make_cases(world, kind, "test", color_captions=count)
    with pytest.raises(BenchmarkError, match=r"--prompts: got 26; expected 1 to 25"):
        make_prompts(make_cases(world, "shapes", "test")[0], world, 26)
