"""The anchors of EmojiBooth as sources: words and composed pictures, where nothing is learned."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.cases.prompts import Prompt
from benchmarks.quality.cases.protocols import Learnable, Phrase
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.learning.methods import BARE
from benchmarks.quality.sources import Bundles, Outcome, Pictures, Source, draw
from models.emoji.compose import draw_scene
from models.emoji.world import Scene, World
from zoodip_core.base_models.catalog import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.personalization.checkpoint import identity
from zoodip_core.personalization.personalize import Personalization


@dataclass(frozen=True)
class Word:
    """One case under its initializer."""

    index: int
    own: str
    case: Learnable
    bundles: Bundles
    settings: PersonalizationSettings
    method: str = "initializer"
    seed: int = 0
    forwards: int = 0

    def draw(self, asked: Sequence[Phrase], each: int) -> Pictures:
        """`each` pictures of every prompt with the word in it."""
        texts = [prompt.with_noun(self.case.initializer) for prompt in asked]
        return draw(self.bundles.at(), self.bundles.entry, texts, each)

    def outcome(self) -> Outcome:
        """The word's loss on the fixed set."""
        case = self.case
        begun = Personalization.begin(self.bundles.at(), case.subject, case.references, self.settings)
        return Outcome(begun.fixed_loss_start)


def words(bundles: Bundles, cases: Sequence[Learnable]) -> Iterator[Word]:
    """The word of every case."""
    settings = resolve_settings(bundles.entry, bundles.at().family, BARE, {})
    for index, case in enumerate(cases):
        yield Word(index, case_identity(bundles, case, settings), case, bundles, settings)


def case_identity(bundles: Bundles, case: Learnable, settings: PersonalizationSettings) -> str:
    """What the pictures of a case depend on where nothing is learned."""
    bundle = bundles.at()
    own = identity(case.subject, settings, bundle.fingerprint, list(case.references))
    return f"{own} {bundle.precision}"


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
