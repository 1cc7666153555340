"""What draws a case: a source is known by its identity before anything is searched or drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, Learnable, Phrase
from benchmarks.quality.learning.methods import Method, Plan, plans
from benchmarks.quality.learning.snapshots import Snapshot, plan_identity, search
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.fingerprint import file_hash, weight_files
from zoodip_core.config import GenerationSettings, Precision
from zoodip_core.diffusion.generation import generate_together
from zoodip_core.diffusion.loading import Bundle, load_bundle, locate
from zoodip_core.diffusion.prompts import ConceptVectors, unflatten


class Bundles:
    """The bundles of one base model by precision."""

    def __init__(
        self, entry: BaseModelEntry, *, device: str | None = None, max_rows: int | None = None
    ) -> None:
        """Load nothing yet; the arguments are those of `load_bundle`."""
        self.entry = entry
        self._device, self._max_rows = device, max_rows
        self._loaded: dict[Precision, Bundle] = {}

    @property
    def drawing(self) -> dict[str, Any]:
        """What pictures depend on beside the bundle's fingerprint: steps and guidance, and the VAE."""
        files = weight_files(locate(self.entry) / "vae")
        return {**self.entry.generation, "vae": [file_hash(file) for file in files]}

    def at(self, precision: Precision | None = None) -> Bundle:
        """The bundle at a precision; the base model's own for None.

        Raises:
            InvalidModelError: the folder is incomplete, of an unsupported kind, or holds no safetensors.
        """
        chosen = precision or self.entry.precision
        if chosen not in self._loaded:
            entry = self.entry.model_copy(update={"precision": chosen})
            self._loaded[chosen] = load_bundle(entry, device=self._device, max_rows=self._max_rows)
        return self._loaded[chosen]


TOGETHER = 24  # pictures in one batch: a large model has no room for a whole case
SEEDS_APART = 1000  # first seeds of two prompts: every method draws prompt k from 1000 k on

Pictures = list[list[Image.Image]]  # of each prompt, one a seed


def draw(
    bundle: Bundle,
    entry: BaseModelEntry,
    texts: Sequence[str],
    each: int,
    concepts: ConceptVectors | None = None,
) -> Pictures:
    """`each` pictures of every text, which may hold the token when `concepts` has its vectors."""
    asked = [
        GenerationSettings.parse(entry.generation | {"prompt": text, "n": each, "seed": index * SEEDS_APART})
        for index, text in enumerate(texts)
    ]
    prompts = max(1, TOGETHER // each)
    parts = (asked[first : first + prompts] for first in range(0, len(asked), prompts))
    drawn = [one for part in parts for one in generate_together(bundle, part, concepts)]
    return [[picture.image for picture in pictures] for pictures in drawn]


def concept(bundle: Bundle, flat: Float[Tensor, " flat"], vectors: int) -> ConceptVectors:
    """A searched point as `generate` takes it."""
    return {TOKEN: [part[0] for part in unflatten(flat[None], vectors, bundle.prompts.widths)]}


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
