"""Cases of EmojiBooth: held-out subjects, shapes and styles with their references.

The held-out lists are divided once. Settings are chosen on the validation split; figures are reported on the test
split.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from PIL import Image

from benchmarks.quality.cases.protocols import TOKEN
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import caption, draw_scene, noun_phrase, style_words
from models.emoji.world import PLAIN, Scene, World
from zoodip_core.personalization.subject import Subject

CaseKind = Literal["subjects", "shapes", "styles"]
Split = Literal["test", "validation"]
Item = TypeVar("Item")

ORDER_SEEDS = {"test": "EmojiBooth report", "validation": "EmojiBooth tuning"}
"""Seeds of the order within a split. Never change them: published figures depend on the order."""

REFERENCES = 4
COLORS = 8
"""The held-out subjects repeat the eight colors in order; shifting the split by one per round shares them out."""

# No trained word names a held-out shape, so the search starts from the nearest word that a user would choose.
SHAPE_INITIALIZERS = {
    "koala": "bear",
    "dolphin": "whale",
    "pear": "lemon",
    "cupcake": "cake",
    "bus": "car",
    "crown": "bell",
    "robot": "clock",
    "cactus": "carrot",
}


@dataclass(frozen=True, eq=False)
class Case:
    """One object or style to learn, with the inputs that every method gets."""

    kind: CaseKind
    scene: Scene  # what the token means; its background is that of the first reference
    initializer: str
    references: Sequence[Image.Image]
    captions: tuple[str, ...] | None  # None: templates

    @property
    def name(self) -> str:
        """Return the object or style in words."""
        return style_words(self.scene.style) if self.kind == "styles" else noun_phrase(self.scene)

    @property
    def subject(self) -> Subject:
        """Return the personalization request, as a user would make it."""
        kind: Literal["style", "object"] = "style" if self.kind == "styles" else "object"
        return Subject(TOKEN, self.initializer, kind, self.captions)


def split_items(items: Sequence[Item], split: Split) -> list[Item]:
    """Return one split of a held-out list in a fixed, shuffled order.

    The two splits are disjoint and cover the list. Item i is in the validation split if i + ⌊i / 8⌋ is even, so
    both splits contain all colors and patterns.
    """
    validation = split == "validation"
    chosen = [item for i, item in enumerate(items) if ((i + i // COLORS) % 2 == 0) is validation]
    random.Random(ORDER_SEEDS[split]).shuffle(chosen)
    return chosen


def make_cases(
    world: World,
    kind: str,
    split: Split,
    count: int | None = None,
    *,
    color_captions: int = 0,
    templates: bool = False,
) -> list[Case]:
    """Return the first `count` cases of one split; all of them for None.

    Args:
        world: objects, colors and backgrounds of the embedded model.
        kind: "subjects", "shapes" or "styles".
        split: "test" or "validation".
        count: number of cases.
        color_captions: captions of each subject that name its color, such as "a photo of a teal <x> on white".
        templates: learn with templates, as if the user gave no captions.

    Raises:
        BenchmarkError: an unknown kind, more cases than the split has, or captions of what has no color.
    """
    if kind not in get_args(CaseKind):
        raise BenchmarkError.mismatch("--kind", got=kind, expected=", ".join(get_args(CaseKind)))
    found = _all_cases(world, kind, split)
    if count is not None and not 1 <= count <= len(found):
        expected = f"1 to {len(found)}, the {kind} of the {split} split"
        raise BenchmarkError.mismatch("--subjects", got=count, expected=expected)
    if color_captions:
        if kind != "subjects" or not 0 < color_captions <= REFERENCES:
            expected = f"0 to {REFERENCES} with --kind subjects, else 0"
            raise BenchmarkError.mismatch("--color-captions", got=color_captions, expected=expected)
        if templates:
            raise BenchmarkError.mismatch("--templates", got="with --color-captions", expected="one of them")
        found = [_with_color(case, color_captions) for case in found]
    if templates:
        found = [replace(case, captions=None) for case in found]
    return found[:count]


def _all_cases(world: World, kind: str, split: Split) -> list[Case]:
    """Return all cases of a kind in one split."""
    held = world.held_out
    if kind == "subjects":
        return [_object_case(world, "subjects", *subject) for subject in split_items(held.subjects, split)]
    if kind == "shapes":
        return [_object_case(world, "shapes", name, PLAIN, PLAIN) for name in split_items(held.shapes, split)]
    return [_style_case(world, *style) for style in split_items(held.styles, split)]


def _with_color(case: Case, count: int) -> Case:
    """Return the case with the color named in its first captions."""
    assert case.captions is not None
    named = (one.replace(TOKEN, f"{case.scene.color} {TOKEN}") for one in case.captions[:count])
    return replace(case, captions=(*named, *case.captions[count:]))


def _object_case(world: World, kind: CaseKind, name: str, color: str, pattern: str) -> Case:
    """Return the case of one object, with references on four backgrounds that differ from its color."""
    rng = random.Random(f"EmojiBooth {name} {color} {pattern}")
    chosen = rng.sample([one for one in world.backgrounds if one != f"on {color}"], REFERENCES)
    scenes = [Scene(name, color, pattern, background) for background in chosen]
    pictures = [draw_scene(scene, rng, world) for scene in scenes]
    captions = tuple(caption(TOKEN, scene.background) for scene in scenes)
    return Case(kind, scenes[0], SHAPE_INITIALIZERS.get(name, name), pictures, captions)


def _style_case(world: World, color_filter: str, form_filter: str) -> Case:
    """Return the case of one pair of filters, with references of four objects.

    The search starts from the name of the color filter.
    """
    rng = random.Random(f"EmojiBooth {color_filter} {form_filter}")
    backgrounds = rng.sample(world.backgrounds, REFERENCES)
    objects = rng.sample(world.trained_objects, REFERENCES)
    style = (color_filter, form_filter)
    scenes = [
        Scene(name, PLAIN, PLAIN, background, style)
        for name, background in zip(objects, backgrounds, strict=True)
    ]
    pictures = [draw_scene(scene, rng, world) for scene in scenes]
    captions = tuple(caption(scene.object, scene.background, TOKEN) for scene in scenes)
    return Case("styles", scenes[0], color_filter, pictures, captions)
