"""What every tool of EmojiBooth shares: cases with their prompts, the base model, and what measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.anchors import anchors
from benchmarks.quality.bundles import Bundles
from benchmarks.quality.drawing import Pictures
from benchmarks.quality.instruments import Instruments
from benchmarks.quality.methods import ANCHORS, METHODS
from benchmarks.quality.metrics import Figures, measure
from benchmarks.quality.prompts import PROMPTS, Prompt, prompt_facts, prompts
from benchmarks.quality.sources import Source, learned
from benchmarks.quality.subjects import Half, cases
from zoodip_core.base_models.catalog import BaseModelEntry


@dataclass(frozen=True)
class Selection:
    """Which cases are learned, and what is drawn of each."""

    out: Path
    kind: str = "subjects"
    half: Half = "report"
    subjects: int | None = None  # None: all of the half
    prompts: int = PROMPTS
    pictures: int = 5  # of each prompt
    changes: dict[str, Any] = field(default_factory=dict)  # over the settings of every zeroth-order method
    device: str | None = None


class Stage:
    """The cases of a selection, and all that draws or measures them."""

    def __init__(
        self,
        entry: BaseModelEntry,
        selection: Selection,
        tools: Instruments,
        tell: Callable[[str], None],
    ) -> None:
        """Choose cases and prompts; no weights are loaded.

        Raises:
            BenchmarkError: an unknown kind, or a count out of range.
        """
        self.cases = cases(tools.world, selection.kind, selection.half, selection.subjects)
        self.asked: Sequence[Sequence[Prompt]] = [
            prompts(case, tools.world, selection.prompts) for case in self.cases
        ]
        self.selection, self.tools, self.tell = selection, tools, tell
        self.bundles = Bundles(entry, device=selection.device)

    def sources(self, method: str, *, seeds: int, forwards: Sequence[int]) -> Iterator[Source[Prompt]]:
        """What draws the cases under an anchor or a method.

        Raises:
            BenchmarkError: a count is too small for one step.
            InvalidSettingsError: a setting is unknown or not allowed.
        """
        if method in ANCHORS:
            if method == "caption" and self.selection.kind == "shapes":
                self.tell("caption: no trained word names a held-out shape, so there is no such row")
            yield from anchors(method, self.bundles, self.cases, self.tools.world)
            return
        yield from learned(
            METHODS[method],
            self.bundles,
            self.cases,
            self.selection.out / "searches",
            seeds=range(seeds),
            forwards=forwards,
            changes=self.selection.changes,
            tell=self.tell,
        )

    def facts(self, index: int) -> dict[str, Any]:
        """Return what a row id records of a case: prompts, pictures, drawing settings and instruments."""
        return {
            "kind": self.selection.kind,
            "case": self.cases[index].name,
            "prompts": [prompt_facts(prompt) for prompt in self.asked[index]],
            "pictures": self.selection.pictures,
            "drawing": self.bundles.drawing,
            "instruments": self.tools.id,
        }

    def figures(self, index: int, drawn: Pictures) -> Figures:
        """The figures of the pictures of one case."""
        tools = self.tools
        return measure(self.cases[index], self.asked[index], drawn, tools.embedder, tools.judge)
