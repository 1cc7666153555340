"""The 25 prompts of every case: all grounds, and among them some with another tint word or a style."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.quality.cases.protocols import Phrase
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.errors import BenchmarkError
from models.emoji.compose import caption, scene_caption, style_words
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import PLAIN, Scene, World

PROMPTS = 25
GROUNDS = (
    *("in the snow", "on blue", "by a brick wall", "on white", "on the grass", "on yellow"),
    *("in the night", "on pink", "on the beach", "on black", "on the wood", "on teal"),
    *("on red", "on gray", "on purple", "on green", "on orange", "on brown"),
)
# (another tint, ground, a look of the whole picture)
CHANGES = (
    ("teal", "on the grass", PLAIN),
    (PLAIN, "on white", "sepia"),
    ("red", "in the snow", PLAIN),
    (PLAIN, "on the beach", "pixelated"),
    ("blue", "on the wood", PLAIN),
    (PLAIN, "in the snow", "framed"),
    ("yellow", "in the night", PLAIN),
)
SPARE_TINT = "orange"  # in place of a change to the tint that the subject has


ID_ATTRIBUTES = ("thing", "tint", "pattern", "ground", "colour look", "form look")
"""Names of the judge's columns in row ids. Never rename them: published rows are found by these words."""


@dataclass(frozen=True)
class Prompt(Phrase):
    """One prompt with `{}` for the learned word, and what it should show."""

    scene: Scene
    changed: int | None = None  # column of ATTRIBUTES that the prompt asks to differ

    @property
    def words(self) -> str:
        """The full caption of what it should show: what language alone reaches."""
        return scene_caption(self.scene)


def prompt_facts(prompt: Prompt) -> dict[str, Any]:
    """Return what a row id records of a prompt, under fixed keys that no class or field name changes."""
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


def prompts(case: Case, world: World, count: int = PROMPTS) -> list[Prompt]:
    """The first `count` prompts of a case, in an order that mixes the sorts.

    Raises:
        BenchmarkError: more or fewer prompts than there are.
    """
    if not 1 <= count <= PROMPTS:
        raise BenchmarkError(f"--prompts {count}: allowed: 1 to {PROMPTS}", field="prompts")
    found = _style_prompts(case, world) if case.kind == "styles" else _thing_prompts(case)
    return found[:count]


def _thing_prompts(case: Case) -> list[Prompt]:
    found = [_prompt(replace(case.scene, background=ground), "{}") for ground in GROUNDS]
    for index, (tint, ground, look) in enumerate(CHANGES):
        found.insert(3 * index + 2, _changed(case, tint, ground, look))
    return found


def _prompt(scene: Scene, noun: str) -> Prompt:
    return Prompt(caption(noun, scene.background, style_words(scene.style)), scene)


def _changed(case: Case, tint: str, ground: str, look: str) -> Prompt:
    """Another tint, said before the token, or a look of the whole picture."""
    if look:
        colour = look == "sepia"
        scene = replace(case.scene, background=ground, style=(look, PLAIN) if colour else (PLAIN, look))
        column = ATTRIBUTES.index("color filter" if colour else "form filter")
        return replace(_prompt(scene, "{}"), changed=column)
    tint = SPARE_TINT if tint == case.scene.color else tint
    scene = replace(case.scene, color=tint, background=ground)
    return replace(_prompt(scene, f"{tint} {{}}"), changed=ATTRIBUTES.index("color"))


def _style_prompts(case: Case, world: World) -> list[Prompt]:
    """Things that the references do not need to hold, each on a ground, all in the learned style."""
    things = random.Random("EmojiBooth styles").sample(world.trained_objects, PROMPTS)
    found = []
    for index, thing in enumerate(things):
        scene = Scene(thing, PLAIN, PLAIN, GROUNDS[index % len(GROUNDS)], case.scene.style)
        found.append(Prompt(caption(thing, scene.background, "{}"), scene))
    return found
