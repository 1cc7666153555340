"""What EmojiBooth learns: held-out subjects, shapes and styles, with their references.

The held-out lists are split once: hyperparameters are chosen on the tuning half, figures come from the other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from PIL import Image

from benchmarks.quality.cases.protocols import TOKEN
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import caption, draw_scene, noun_phrase, style_words
from models.emoji.world import PLAIN, Scene, World
from zoodip_core.personalization.personalize import Subject

Kind = Literal["subjects", "shapes", "styles"]
Half = Literal["report", "tuning"]
Item = TypeVar("Item")

REFERENCES = 4
TINTS = 8
"""The held-out subjects go through the eight tints in turn; shifting the split by one a turn shares them out."""

# No trained word names a held-out shape, so the search starts at the nearest that a person would say.
SHAPE_STARTS = {
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
    """One thing or style to learn, with all that every method is given."""

    kind: Kind
    scene: Scene  # what the token stands for; its ground is the first reference's
    initializer: str
    references: Sequence[Image.Image]
    captions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The thing or style in words."""
        return style_words(self.scene.style) if self.kind == "styles" else noun_phrase(self.scene)

    @property
    def subject(self) -> Subject:
        """The request as a person would make it."""
        kind: Literal["style", "object"] = "style" if self.kind == "styles" else "object"
        return Subject(TOKEN, self.initializer, kind, self.captions)


def split(items: Sequence[Item], half: Half) -> list[Item]:
    """The half of a held-out list in a fixed, mixed order; the two halves share nothing and hold everything.

    Source: item i goes to tuning where i + ⌊i / 8⌋ is even, so both halves see all tints and patterns.
    """
    tuning = half == "tuning"
    chosen = [item for i, item in enumerate(items) if ((i + i // TINTS) % 2 == 0) is tuning]
    random.Random(f"EmojiBooth {half}").shuffle(chosen)
    return chosen


def cases(world: World, kind: str, half: Half, count: int | None = None) -> list[Case]:
    """The first `count` cases of one half; all for None.

    Raises:
        BenchmarkError: an unknown kind, or more cases than there are.
    """
    if kind not in get_args(Kind):
        raise BenchmarkError(f"--kind {kind}: allowed: {', '.join(get_args(Kind))}", field="kind")
    held = world.held_out
    found: list[Case]
    if kind == "subjects":
        found = [_thing(world, "subjects", *subject) for subject in split(held.subjects, half)]
    elif kind == "shapes":
        found = [_thing(world, "shapes", shape, PLAIN, PLAIN) for shape in split(held.shapes, half)]
    else:
        found = [_style(world, *style) for style in split(held.styles, half)]
    if count is not None and not 1 <= count <= len(found):
        raise BenchmarkError(
            f"--subjects {count}: the {half} half of the {kind} holds {len(found)}; allowed: 1 to {len(found)}",
            field="subjects",
        )
    return found[:count]


def _thing(world: World, kind: Kind, thing: str, tint: str, pattern: str) -> Case:
    """References of one thing on four grounds that are not of its own colour."""
    rng = random.Random(f"EmojiBooth {thing} {tint} {pattern}")
    grounds = rng.sample([ground for ground in world.backgrounds if ground != f"on {tint}"], REFERENCES)
    scenes = [Scene(thing, tint, pattern, ground) for ground in grounds]
    pictures = [draw_scene(scene, rng, world) for scene in scenes]
    captions = tuple(caption(TOKEN, scene.background) for scene in scenes)
    return Case(kind, scenes[0], SHAPE_STARTS.get(thing, thing), pictures, captions)


def _style(world: World, colour: str, form: str) -> Case:
    """References of four things in one pair of looks; the search starts at the first look's word."""
    rng = random.Random(f"EmojiBooth {colour} {form}")
    grounds = rng.sample(world.backgrounds, REFERENCES)
    things = rng.sample(world.trained_objects, REFERENCES)
    scenes = [Scene(thing, PLAIN, PLAIN, g, (colour, form)) for thing, g in zip(things, grounds, strict=True)]
    pictures = [draw_scene(scene, rng, world) for scene in scenes]
    captions = tuple(caption(scene.object, scene.background, TOKEN) for scene in scenes)
    return Case("styles", scenes[0], colour, pictures, captions)
