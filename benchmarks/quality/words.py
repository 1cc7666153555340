"""The lower anchor as a source: the initializer's word in place of the token, where every search starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.quality.bundles import Bundles
from benchmarks.quality.drawing import Pictures, draw
from benchmarks.quality.learnable import Learnable
from benchmarks.quality.methods import BARE
from benchmarks.quality.phrase import Phrase
from benchmarks.quality.sources import Outcome
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
