"""Sources of pictures: learned tokens, and the base model that draws them.

The identity of a source is known before anything is searched or drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from benchmarks.quality.cases.protocols import TOKEN, Learnable, PromptTemplate
from benchmarks.quality.learning.methods import Method, Plan, make_plans
from benchmarks.quality.learning.snapshots import Snapshot, plan_identity, search
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.fingerprint import file_hash
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import GenerationSettings, Precision
from zoodip_core.diffusion.generation import generate_together
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.prompts import ConceptVectors, unflatten

BATCH_PICTURES = 24  # in one batch; a large model has no memory for a whole case
SEED_STRIDE = 1000  # all methods draw prompt k from seeds 1000 k, 1000 k + 1, …

Pictures = list[list[Image.Image]]  # of each prompt, one for each seed
P_contra = TypeVar("P_contra", bound=PromptTemplate, contravariant=True)


class BundleCache:
    """One base model at every precision that methods need, each loaded once."""

    def __init__(
        self, entry: BaseModelEntry, *, device: str | None = None, max_rows: int | None = None
    ) -> None:
        """Store the arguments of `load_bundle`; load nothing yet."""
        self.entry = entry
        self._device, self._max_rows = device, max_rows
        self._loaded: dict[Precision, Bundle] = {}

    @property
    def drawing(self) -> dict[str, Any]:
        """Return what pictures depend on besides the bundle's fingerprint: steps, guidance and VAE."""
        files = weight_files(find_model_folder(self.entry) / "vae")
        return {**self.entry.generation, "vae": [file_hash(file) for file in files]}

    def at(self, precision: Precision | None = None) -> Bundle:
        """Return the bundle at a precision; at the base model's own for None.

        Raises:
            InvalidModelError: the folder is incomplete, of an unsupported kind, or has no safetensors.
        """
        chosen = precision or self.entry.precision
        if chosen not in self._loaded:
            entry = self.entry.model_copy(update={"precision": chosen})
            self._loaded[chosen] = load_bundle(entry, device=self._device, max_rows=self._max_rows)
        return self._loaded[chosen]


def draw(
    bundle: Bundle,
    entry: BaseModelEntry,
    texts: Sequence[str],
    each: int,
    concepts: ConceptVectors | None = None,
) -> Pictures:
    """Draw `each` pictures of every text. Texts may contain the token if `concepts` has its vectors."""
    requests = [
        GenerationSettings.parse(entry.generation | {"prompt": text, "n": each, "seed": index * SEED_STRIDE})
        for index, text in enumerate(texts)
    ]
    prompts = max(1, BATCH_PICTURES // each)
    parts = (requests[first : first + prompts] for first in range(0, len(requests), prompts))
    drawn = [one for part in parts for one in generate_together(bundle, part, concepts)]
    return [[picture.image for picture in pictures] for pictures in drawn]


def concept_vectors(bundle: Bundle, flat: Float[Tensor, " flat"], vectors: int) -> ConceptVectors:
    """Convert a searched θ to the vectors that `generate` takes."""
    return {TOKEN: [part[0] for part in unflatten(flat[None], vectors, bundle.prompts.widths)]}


@dataclass(frozen=True)
class SearchOutcome:
    """Loss and cost of a search; None where nothing was searched."""

    fixed_loss: float | None = None  # validation loss
    seconds: float | None = None  # the time of the search of all cases, divided by their number
    peak_mb: float | None = None


class Source(Protocol[P_contra]):
    """A word, a learned token or a composer that draws one case."""

    @property
    def method(self) -> str:
        """Return the name of the anchor or method."""

    @property
    def index(self) -> int:
        """Return the index of the case."""

    @property
    def seed(self) -> int:
        """Return the seed of the search."""

    @property
    def forwards(self) -> int:
        """Return the U-Net evaluations of this case's search."""

    @property
    def identity(self) -> str:
        """Return a hash of everything that the pictures depend on besides prompts and seeds."""

    def draw(self, prompts: Sequence[P_contra], each: int) -> Pictures:
        """Draw `each` pictures of every prompt."""

    def outcome(self) -> SearchOutcome:
        """Return loss and cost of the search."""


def describe_source(source: Source[Any], name: str) -> str:
    """Describe the source that draws the case of this name, for a log."""
    return f"{source.method}, seed {source.seed}, {source.forwards} evaluations, {name}"


@dataclass(frozen=True)
class LazySearch:
    """One search of some cases, run or read from its folder when its tokens are first needed."""

    plan: Plan
    bundle: Bundle
    cases: Sequence[Learnable]
    folder: Path
    log: Callable[[str], None]

    @cached_property
    def identity(self) -> str:
        """Return the identity of the search."""
        return plan_identity(self.plan, self.bundle, self.cases)

    @cached_property
    def snapshots(self) -> dict[int, Snapshot]:
        """Return the snapshots by number of evaluations.

        Raises:
            InvalidCheckpointError: a file in the folder is damaged.
            BenchmarkError: a search diverged.
        """
        found = search(self.plan, self.bundle, self.cases, self.folder, self.log)
        return {snapshot.forwards: snapshot for snapshot in found}


@dataclass(frozen=True)
class LearnedToken:
    """The token of one case of a search after a number of evaluations."""

    search: LazySearch
    entry: BaseModelEntry
    index: int
    forwards: int

    @property
    def method(self) -> str:
        """Return the name of the method."""
        return self.search.plan.method.name

    @property
    def seed(self) -> int:
        """Return the seed of the search."""
        return self.search.plan.settings.seed

    @property
    def identity(self) -> str:
        """Return the identity of the search."""
        return self.search.identity

    def draw(self, prompts: Sequence[PromptTemplate], each: int) -> Pictures:
        """Draw `each` pictures of every prompt with the token."""
        bundle, plan = self.search.bundle, self.search.plan
        token = self.search.snapshots[self.forwards].tokens[self.index]
        texts = [prompt.with_noun(TOKEN) for prompt in prompts]
        return draw(bundle, self.entry, texts, each, concept_vectors(bundle, token, plan.settings.vectors))

    def outcome(self) -> SearchOutcome:
        """Return the validation loss and the cost of the search."""
        snapshot = self.search.snapshots[self.forwards]
        seconds = snapshot.seconds / len(self.search.cases)
        return SearchOutcome(snapshot.validation_losses[self.index], seconds, snapshot.peak_mb)


def learned_tokens(
    method: Method,
    bundles: BundleCache,
    cases: Sequence[Learnable],
    folder: Path,
    *,
    seeds: Sequence[int],
    forwards: Sequence[int],
    changes: dict[str, Any],
    log: Callable[[str], None],
    seed_per_case: bool = False,
) -> Iterator[LearnedToken]:
    """Yield the tokens of a method by seed, number of evaluations and case. All cases are searched together.

    Raises:
        BenchmarkError: a length is too short for one step.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    bundle = bundles.at(method.precision)
    for seed in seeds:
        for plan in make_plans(
            method,
            bundles.entry,
            bundle.family,
            seed=seed,
            forwards=forwards,
            changes=changes,
            seed_per_case=seed_per_case,
        ):
            lazy = LazySearch(plan, bundle, cases, folder, log)
            for count in plan.forwards:
                for index in range(len(cases)):
                    yield LearnedToken(lazy, bundles.entry, index, count)
