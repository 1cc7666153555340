"""The anchors of EmojiBooth as sources: words and composed pictures, where nothing is learned."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.bundles import Bundles
from benchmarks.quality.drawing import Pictures, draw
from benchmarks.quality.methods import BARE
from benchmarks.quality.prompts import Prompt
from benchmarks.quality.sources import Outcome, Source
from benchmarks.quality.subjects import Case
from benchmarks.quality.words import case_identity, words
from models.emoji.compose import draw_scene
from models.emoji.world import Scene, World
from zoodip_core.base_models.catalog import resolve_settings


@dataclass(frozen=True)
class Anchor:
    """One case under its full caption, or in real pictures."""

    method: str
    index: int
    own: str
    bundles: Bundles
    world: World
    seed: int = 0
    forwards: int = 0

    def draw(self, asked: Sequence[Prompt], each: int) -> Pictures:
        """`each` pictures of every prompt."""
        if self.method == "real":
            return compose_real(asked, each, self.world)
        return draw(self.bundles.at(), self.bundles.entry, [prompt.words for prompt in asked], each)

    def outcome(self) -> Outcome:
        """Nothing was searched."""
        return Outcome()


def anchors(method: str, bundles: Bundles, cases: Sequence[Case], world: World) -> Iterator[Source[Prompt]]:
    """An anchor on every case; none where no trained word names a held-out shape."""
    if method == "initializer":
        yield from words(bundles, cases)
        return
    settings = resolve_settings(bundles.entry, bundles.at().family, BARE, {})
    for index, case in enumerate(cases):
        if method == "caption" and case.kind == "shapes":
            return
        yield Anchor(method, index, case_identity(bundles, case, settings), bundles, world)


def compose_real(asked: Sequence[Prompt], each: int, world: World) -> Pictures:
    """Real pictures of what every prompt asks for."""
    return [
        [
            draw_scene(prompt.scene, random.Random(f"EmojiBooth {_seed_text(prompt.scene)} {seed}"), world)
            for seed in range(each)
        ]
        for prompt in asked
    ]


def _seed_text(scene: Scene) -> str:
    """Return the text that seeds a composed picture; a changed letter would draw other pictures."""
    return (
        f"Scene(thing={scene.object!r}, tint={scene.color!r}, pattern={scene.pattern!r}, "
        f"ground={scene.background!r}, style={scene.style!r})"
    )
