"""What draws a case: a source is known by its identity before anything is searched or drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from benchmarks.quality.bundles import Bundles
from benchmarks.quality.drawing import Pictures, concept, draw
from benchmarks.quality.learnable import TOKEN, Learnable
from benchmarks.quality.methods import Method
from benchmarks.quality.phrase import Phrase
from benchmarks.quality.searching import Plan, Snapshot, plan_identity, plans, search
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.loading import Bundle

P_contra = TypeVar("P_contra", bound=Phrase, contravariant=True)


@dataclass(frozen=True)
class Outcome:
    """What a search came to; None where nothing was searched."""

    fixed_loss: float | None = None
    seconds: float | None = None  # of the search of all cases together, shared out
    peak_mb: float | None = None


class Source(Protocol[P_contra]):
    """A word, a token or a composer that draws one case."""

    @property
    def method(self) -> str:
        """The name of the anchor or method."""

    @property
    def index(self) -> int:
        """Which case."""

    @property
    def seed(self) -> int:
        """Of the search."""

    @property
    def forwards(self) -> int:
        """Of the search of this case."""

    @property
    def own(self) -> str:
        """A hash of everything that the pictures depend on beside prompts and seeds."""

    def draw(self, asked: Sequence[P_contra], each: int) -> Pictures:
        """`each` pictures of every prompt."""

    def outcome(self) -> Outcome:
        """What the search came to."""


def described(source: Source[Any], name: str) -> str:
    """A source for a person: what draws the case of that name."""
    return f"{source.method}, seed {source.seed}, {source.forwards} forwards, {name}"


@dataclass(frozen=True)
class Searched:
    """One search of some cases, run or read from its folder when its tokens are first needed."""

    plan: Plan
    bundle: Bundle
    cases: Sequence[Learnable]
    folder: Path
    tell: Callable[[str], None]

    @cached_property
    def own(self) -> str:
        """The identity of the search."""
        return plan_identity(self.plan, self.bundle, self.cases)

    @cached_property
    def snapshots(self) -> dict[int, Snapshot]:
        """What was learned after each count of forwards.

        Raises:
            InvalidCheckpointError: a file in the folder is damaged.
            BenchmarkError: a search diverged.
        """
        found = search(self.plan, self.bundle, self.cases, self.folder, self.tell)
        return {snapshot.forwards: snapshot for snapshot in found}


@dataclass(frozen=True)
class Learned:
    """The token of one case of a search after so many forwards."""

    searched: Searched
    entry: BaseModelEntry
    index: int
    forwards: int

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.searched.plan.method.name

    @property
    def seed(self) -> int:
        """Of the search."""
        return self.searched.plan.settings.seed

    @property
    def own(self) -> str:
        """The identity of the search."""
        return self.searched.own

    def draw(self, asked: Sequence[Phrase], each: int) -> Pictures:
        """`each` pictures of every prompt with the token in it."""
        bundle, plan = self.searched.bundle, self.searched.plan
        token = self.searched.snapshots[self.forwards].tokens[self.index]
        texts = [prompt.with_noun(TOKEN) for prompt in asked]
        return draw(bundle, self.entry, texts, each, concept(bundle, token, plan.settings.vectors))

    def outcome(self) -> Outcome:
        """The loss on the fixed set, and the search's cost."""
        snapshot = self.searched.snapshots[self.forwards]
        seconds = snapshot.seconds / len(self.searched.cases)
        return Outcome(snapshot.fixed_losses[self.index], seconds, snapshot.peak_mb)


def learned(
    method: Method,
    bundles: Bundles,
    cases: Sequence[Learnable],
    folder: Path,
    *,
    seeds: Sequence[int],
    forwards: Sequence[int],
    changes: dict[str, Any],
    tell: Callable[[str], None],
) -> Iterator[Learned]:
    """The tokens of a method: of each seed, count of forwards and case; all cases are searched together.

    Raises:
        BenchmarkError: a count is too small for one step.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    bundle = bundles.at(method.precision)
    for seed in seeds:
        for plan in plans(
            method, bundles.entry, bundle.family, seed=seed, forwards=forwards, changes=changes
        ):
            searched = Searched(plan, bundle, cases, folder, tell)
            for count in plan.forwards:
                for index in range(len(cases)):
                    yield Learned(searched, bundles.entry, index, count)
