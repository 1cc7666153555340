"""Stopping early: the ending that the rule picks, both endings measured, and the table of what it saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.quality import stopping
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.metrics import Figures, Instruments
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import Booth, Options, Selection
from benchmarks.quality.stopping import Pair, Way, measure, plan, table, verdict
from zoodip_core.base_models.catalog import BaseModelEntry

MakeBooth = Callable[..., Booth]


@pytest.fixture
def make(
    entry: BaseModelEntry, tools: Instruments, few_cases: list[Case], tmp_path: Path
) -> Callable[..., Booth]:
    """A booth whose searches take 8 steps and measure after each, with changes."""
    assert few_cases

    def made(**changes: float) -> Booth:
        chosen = Selection(
            tmp_path,
            prompts=2,
            pictures=1,
            changes={"fixed_rows": 2, "measure_every": 1, "steps": 8} | changes,
            device="cpu",
        )
        return Booth(entry, Options(chosen, ()), tools, lambda _: None)

    return made


def test_a_search_that_gains_nothing_is_drawn_twice(make: MakeBooth) -> None:
    """A rate of next to nothing stalls at the sixth measurement; the other ending is the last step."""
    pairs = measure(make(learning_rate=1e-12), seeds=2)
    assert [(pair.auto.forwards, pair.steps.forwards) for pair in pairs] == [(15, 24)] * 4
    assert [pair.auto.seed for pair in pairs] == [0, 0, 1, 1]
    assert "4 of 4 searches end early and 38% of all forwards are saved" in verdict(pairs)


def test_an_ending_is_where_a_search_with_auto_ends(make: MakeBooth) -> None:
    """The token of the ending is that of a search of its own that stops early, to rounding."""
    from zoodip_core.personalization.personalize import Personalization
    from zoodip_core.personalization.run import run_search

    booth = make(learning_rate=1e-12)
    way = Way(booth.stage, plan(booth, 0))
    case, bundle = booth.stage.cases[0], booth.stage.bundles.at()
    settings = way.plan.settings.model_copy(update={"stop": "auto"})
    alone = Personalization.begin(bundle, case.subject, case.references, settings)
    run_search(alone, on_progress=lambda _: None, save=lambda _: None, should_stop=lambda: False)
    ending = way.auto(0)
    assert ending.step == alone.step
    assert way.losses[0][: len(alone.fixed_losses)] == pytest.approx(alone.fixed_losses, rel=1e-4)
    assert way.tokens[ending.step, 0].tolist() == pytest.approx(alone.search.theta.tolist(), abs=1e-5)


def test_a_search_that_never_stalls_is_measured_once(make: MakeBooth) -> None:
    """Where the rule never ends it, as in a search too short for it, both endings are one row."""
    assert all(pair.auto is pair.steps for pair in measure(make(learning_rate=1e-12, steps=4), seeds=1))


def _row(subject: str, seed: int, forwards: int, clip_i: float) -> Row:
    figures = Figures(clip_i, 0.5, None, 0.75, 1.0, None, None)
    return Row("a", "default, ended", "subjects", "report", subject, seed, forwards, figures)


def test_the_table_has_both_endings_and_the_seeds_apart() -> None:
    """Means over seeds for each subject, then of all; the spread is that of the whole searches."""
    pairs = [
        Pair(_row("bee", 0, 90, 0.5), _row("bee", 0, 45, 0.4)),
        Pair(_row("bee", 1, 90, 0.7), _row("bee", 1, 90, 0.7)),
        Pair(_row("cow", 0, 90, 0.6), _row("cow", 0, 45, 0.7)),
        Pair(_row("cow", 1, 90, 0.6), _row("cow", 1, 90, 0.6)),
    ]
    assert table(pairs).splitlines()[2:] == [
        "| bee | 90 | 68 | 0.75 | 0.75 | 0.600 | 0.550 | 0.141 |",
        "| cow | 90 | 68 | 0.75 | 0.75 | 0.600 | 0.650 | 0.000 |",
        "| mean | 90 | 68 | 0.75 | 0.75 | 0.600 | 0.600 | 0.071 |",
    ]
    assert verdict(pairs).startswith("2 of 4 searches end early and 25% of all forwards are saved; CLIP-I")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "1"], "error: --seeds 1: allowed: 2 or more"),
        (["--subjects", "99"], "error: --subjects 99: the report half of the subjects holds"),
        (["--set", "steps=5000"], "error: --set steps=5000: allowed: at most 1024"),
        (["--set", "seed=5"], "error: settings.seed = 5: the run's own options say it"),
    ],
)
def test_what_cannot_be_done_is_said(given: list[str], message: str, tmp_path: Path) -> None:
    """One line, before anything is searched."""
    with pytest.raises(SystemExit) as stopped:
        stopping.main(["--out", str(tmp_path), *given])
    assert str(stopped.value).startswith(message)
    assert not list(tmp_path.iterdir())
