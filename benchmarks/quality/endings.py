"""Where one search of all cases may end: its tokens after every step, its losses at every measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from benchmarks.quality.cohort import begin_all, fixed_loss
from benchmarks.quality.drawing import Pictures, concept, draw
from benchmarks.quality.learnable import TOKEN
from benchmarks.quality.phrase import Phrase
from benchmarks.quality.searching import Plan, forwards_per_step, plan_identity
from benchmarks.quality.sources import Outcome
from benchmarks.quality.stage import Stage
from benchmarks.quality.walking import walk
from zoodip_core.personalization.early_stopping import has_stalled


@dataclass(frozen=True)
class Way:
    """One search of all cases from its start to its last step; `walk` must keep every step of it."""

    stage: Stage
    plan: Plan

    @cached_property
    def own(self) -> str:
        """The identity of the search."""
        return plan_identity(self.plan, self.stage.bundles.at(), self.stage.cases)

    @cached_property
    def tokens(self) -> Float[Tensor, "steps cases flat"]:
        """θ of every case, from before the first step to after the last."""
        folder = self.stage.selection.out / "searches"
        return walk(self.plan, self.stage.bundles.at(), self.stage.cases, folder, self.stage.tell)

    @cached_property
    def losses(self) -> list[list[float]]:
        """Of each case, the fixed-set losses where a search with these settings measures them."""
        bundle, settings = self.stage.bundles.at(), self.plan.settings
        steps = range(0, settings.steps + 1, settings.measure_every)
        begun = begin_all(bundle, self.stage.cases, settings)
        return [
            [fixed_loss(bundle, search, self.tokens[step, index]) for step in steps]
            for index, search in enumerate(begun)
        ]

    def auto(self, index: int) -> Ending:
        """Where `stop="auto"` ends the search of a case."""
        settings, losses = self.plan.settings, self.losses[index]
        for k, step in enumerate(range(0, settings.steps, settings.measure_every), start=1):
            if has_stalled(losses[:k], share=step / settings.steps):
                return Ending(self, index, step)
        return self.last(index)

    def last(self, index: int) -> Ending:
        """Where `stop="steps"` ends it."""
        return Ending(self, index, self.plan.settings.steps)


@dataclass(frozen=True)
class Ending:
    """The token of one case after some step, as EmojiBooth draws and measures it."""

    way: Way
    index: int
    step: int

    @property
    def method(self) -> str:
        """A name of its own: these rows have no loss and no cost, unlike the method's own."""
        return f"{self.way.plan.method.name}, ended"

    @property
    def seed(self) -> int:
        """Of the search."""
        return self.way.plan.settings.seed

    @property
    def forwards(self) -> int:
        """Of the search of this case; measuring takes some more."""
        return self.step * forwards_per_step(self.way.plan.method, self.way.plan.settings)

    @property
    def own(self) -> str:
        """The identity of the search."""
        return self.way.own

    def draw(self, asked: Sequence[Phrase], each: int) -> Pictures:
        """`each` pictures of every prompt with the token in it."""
        bundles, vectors = self.way.stage.bundles, self.way.plan.settings.vectors
        concepts = concept(bundles.at(), self.way.tokens[self.step, self.index], vectors)
        return draw(
            bundles.at(), bundles.entry, [prompt.with_noun(TOKEN) for prompt in asked], each, concepts
        )

    def outcome(self) -> Outcome:
        """Nothing: one search was run for all of its endings."""
        return Outcome()
