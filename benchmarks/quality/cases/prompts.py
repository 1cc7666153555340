"""The 25 prompts of every case: all backgrounds, and some with another color or a filter."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.quality.cases.protocols import PromptTemplate
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import caption, scene_caption, style_words
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import PLAIN, Scene, World

PROMPTS = 25
BACKGROUNDS = (
    *("in the snow", "on blue", "by a brick wall", "on white", "on the grass", "on yellow"),
    *("in the night", "on pink", "on the beach", "on black", "on the wood", "on teal"),
    *("on red", "on gray", "on purple", "on green", "on orange", "on brown"),
)
# (another color, background, a filter over the whole picture)
EDITS = (
    ("teal", "on the grass", PLAIN),
    (PLAIN, "on white", "sepia"),
    ("red", "in the snow", PLAIN),
    (PLAIN, "on the beach", "pixelated"),
    ("blue", "on the wood", PLAIN),
    (PLAIN, "in the snow", "framed"),
    ("yellow", "in the night", PLAIN),
)
SPARE_COLOR = "orange"  # replaces an edit to the color that the subject already has

ID_ATTRIBUTES = ("thing", "tint", "pattern", "ground", "colour look", "form look")
"""Names of the judge's columns in row ids. Never rename them: they are part of the ids of published rows."""


@dataclass(frozen=True)
class Prompt(PromptTemplate):
    """One prompt with `{}` in place of the learned token, and the scene that it should show."""

    scene: Scene
    changed: int | None = None  # column of ATTRIBUTES that the prompt edits

    @property
    def words(self) -> str:
        """Return the full caption of the scene, which needs no learned token."""
        return scene_caption(self.scene)


def prompt_facts(prompt: Prompt) -> dict[str, Any]:
    """Return the part of a row id that describes a prompt, under fixed keys that no class or field name changes."""
    scene = prompt.scene
    return {
        "template": prompt.template,
        "thing": scene.object,
        "tint": scene.color,
        "pattern": scene.pattern,
        "ground": scene.background,
        "style": list(scene.style),
        "changed": None if prompt.changed is None else ID_ATTRIBUTES[prompt.changed],
    }


def make_prompts(case: Case, world: World, count: int = PROMPTS) -> list[Prompt]:
    """Return the first `count` prompts of a case, in an order that mixes plain prompts and edits.

    Raises:
        BenchmarkError: the count is out of range.
    """
    if not 1 <= count <= PROMPTS:
        raise BenchmarkError.mismatch("--prompts", got=count, expected=f"1 to {PROMPTS}")
    found = _style_prompts(case, world) if case.kind == "styles" else _object_prompts(case)
    return found[:count]


def _object_prompts(case: Case) -> list[Prompt]:
    found = [_prompt(replace(case.scene, background=background), "{}") for background in BACKGROUNDS]
    for index, (color, background, filter_name) in enumerate(EDITS):
        found.insert(3 * index + 2, _edited(case, color, background, filter_name))
    return found


def _prompt(scene: Scene, noun: str) -> Prompt:
    return Prompt(caption(noun, scene.background, style_words(scene.style)), scene)


def _edited(case: Case, color: str, background: str, filter_name: str) -> Prompt:
    """Return a prompt that asks for another color before the token, or for a filter over the whole picture."""
    if filter_name:
        of_color = filter_name == "sepia"
        style = (filter_name, PLAIN) if of_color else (PLAIN, filter_name)
        scene = replace(case.scene, background=background, style=style)
        column = ATTRIBUTES.index("color filter" if of_color else "form filter")
        return replace(_prompt(scene, "{}"), changed=column)
    color = SPARE_COLOR if color == case.scene.color else color
    scene = replace(case.scene, color=color, background=background)
    return replace(_prompt(scene, f"{color} {{}}"), changed=ATTRIBUTES.index("color"))


def _style_prompts(case: Case, world: World) -> list[Prompt]:
    """Return prompts for objects on backgrounds in the learned style; references need not contain the objects."""
    objects = random.Random("EmojiBooth styles").sample(world.trained_objects, PROMPTS)
    found = []
    for index, name in enumerate(objects):
        scene = Scene(name, PLAIN, PLAIN, BACKGROUNDS[index % len(BACKGROUNDS)], case.scene.style)
        found.append(Prompt(caption(name, scene.background, "{}"), scene))
    return found
