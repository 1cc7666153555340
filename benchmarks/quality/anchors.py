"""Anchors of EmojiBooth: sources that draw words or compose pictures, and learn nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.cases.prompts import Prompt
from benchmarks.quality.cases.protocols import Learnable, PromptTemplate
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.learning.methods import ANCHOR_PRESET
from benchmarks.quality.sources import BundleCache, Pictures, SearchOutcome, Source, draw
from models.emoji.compose import draw_scene
from models.emoji.world import Scene, World
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.personalization.checkpoint import identity
from zoodip_core.personalization.personalize import Personalization


@dataclass(frozen=True)
class InitializerAnchor:
    """Lower anchor: one case drawn with its initializer, the word that every search starts from."""

    index: int
    identity: str
    case: Learnable
    bundles: BundleCache
    settings: PersonalizationSettings
    method: str = "initializer"
    seed: int = 0
    forwards: int = 0

    def draw(self, prompts: Sequence[PromptTemplate], each: int) -> Pictures:
        """Draw `each` pictures of every prompt with the word."""
        texts = [prompt.with_noun(self.case.initializer) for prompt in prompts]
        return draw(self.bundles.at(), self.bundles.entry, texts, each)

    def outcome(self) -> SearchOutcome:
        """Return the validation loss of the word."""
        case = self.case
        begun = Personalization.begin(self.bundles.at(), case.subject, case.references, self.settings)
        return SearchOutcome(begun.fixed_loss_start)


@dataclass(frozen=True)
class UpperAnchor:
    """Upper anchor: one case drawn from its full caption, or composed as real pictures."""

    method: str
    index: int
    identity: str
    bundles: BundleCache
    world: World
    seed: int = 0
    forwards: int = 0

    def draw(self, prompts: Sequence[Prompt], each: int) -> Pictures:
        """Draw or compose `each` pictures of every prompt."""
        if self.method == "real":
            return compose_real(prompts, each, self.world)
        return draw(self.bundles.at(), self.bundles.entry, [prompt.words for prompt in prompts], each)

    def outcome(self) -> SearchOutcome:
        """Return an empty outcome, because nothing was searched."""
        return SearchOutcome()


def initializer_anchors(bundles: BundleCache, cases: Sequence[Learnable]) -> Iterator[InitializerAnchor]:
    """Yield the lower anchor of every case."""
    settings = resolve_settings(bundles.entry, bundles.at().family, ANCHOR_PRESET, {})
    for index, case in enumerate(cases):
        yield InitializerAnchor(index, anchor_identity(bundles, case, settings), case, bundles, settings)


def make_anchors(
    method: str, bundles: BundleCache, cases: Sequence[Case], world: World
) -> Iterator[Source[Prompt]]:
    """Yield an anchor for every case; none for captions of held-out shapes, which no trained word names."""
    if method == "initializer":
        yield from initializer_anchors(bundles, cases)
        return
    settings = resolve_settings(bundles.entry, bundles.at().family, ANCHOR_PRESET, {})
    for index, case in enumerate(cases):
        if method == "caption" and case.kind == "shapes":
            return
        yield UpperAnchor(method, index, anchor_identity(bundles, case, settings), bundles, world)


def anchor_identity(bundles: BundleCache, case: Learnable, settings: PersonalizationSettings) -> str:
    """Return what the pictures of an anchor depend on besides prompts and seeds."""
    bundle = bundles.at()
    found = identity(case.subject, settings, bundle.fingerprint, list(case.references))
    return f"{found} {bundle.precision}"


def compose_real(prompts: Sequence[Prompt], each: int, world: World) -> Pictures:
    """Compose real pictures of the scene of every prompt."""
    return [
        [
            draw_scene(prompt.scene, random.Random(f"EmojiBooth {_seed_text(prompt.scene)} {seed}"), world)
            for seed in range(each)
        ]
        for prompt in prompts
    ]


def _seed_text(scene: Scene) -> str:
    """Return the text that seeds a composed picture. Any change of it changes published figures."""
    return (
        f"Scene(thing={scene.object!r}, tint={scene.color!r}, pattern={scene.pattern!r}, "
        f"ground={scene.background!r}, style={scene.style!r})"
    )
