"""Early stopping: the point that the rule selects, both stopping points measured, and the table of savings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.quality import stopping
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.metrics import Figures, Instruments
from benchmarks.quality.report.rows import Row
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from benchmarks.quality.stopping import Pair, Trajectory, make_plan, measure, table, verdict
from zoodip_core.base_models.catalog import BaseModelEntry

MakeRun = Callable[..., BenchmarkRun]


@pytest.fixture
def make(
    entry: BaseModelEntry, tools: Instruments, few_cases: list[Case], tmp_path: Path
) -> Callable[..., BenchmarkRun]:
    """Return a function that creates a run whose searches take 8 steps and measure after each."""
    assert few_cases

    def made(**changes: float) -> BenchmarkRun:
        chosen = Selection(
            tmp_path,
            prompts=2,
            pictures=1,
            changes={"fixed_rows": 2, "measure_every": 1, "steps": 8} | changes,
            device="cpu",
        )
        return BenchmarkRun(entry, RunOptions(chosen, ()), tools, lambda _: None)

    return made


@pytest.mark.slow
def test_a_stalled_search_is_drawn_twice(make: MakeRun) -> None:
    """A tiny learning rate stalls at the sixth measurement; the other stopping point is the last step."""
    pairs = measure(make(learning_rate=1e-12), seeds=2)
    assert [(pair.auto.forwards, pair.steps.forwards) for pair in pairs] == [(15, 24)] * 4
    assert [pair.auto.seed for pair in pairs] == [0, 0, 1, 1]
    assert "4 of 4 searches stop early and 38% of all evaluations are saved" in verdict(pairs)


@pytest.mark.slow
def test_a_stopping_point_equals_a_search_with_auto(make: MakeRun) -> None:
    """The token at the stopping point equals that of a separate search that stops early, up to rounding."""
    from zoodip_core.personalization.personalize import Personalization
    from zoodip_core.personalization.run import run_search

    benchmark = make(learning_rate=1e-12)
    trajectory = Trajectory(benchmark.setup, make_plan(benchmark, 0))
    case, bundle = benchmark.setup.cases[0], benchmark.setup.bundles.at()
    settings = trajectory.plan.settings.model_copy(update={"stop": "auto"})
    alone = Personalization.begin(bundle, case.subject, case.references, settings)
    run_search(alone, on_progress=lambda _: None, save=lambda _: None, should_stop=lambda: False)
    point = trajectory.auto(0)
    assert point.step == alone.step
    assert trajectory.losses[0][: len(alone.fixed_losses)] == pytest.approx(alone.fixed_losses, rel=1e-4)
    assert trajectory.tokens[point.step, 0].tolist() == pytest.approx(alone.search.theta.tolist(), abs=1e-5)


@pytest.mark.slow
def test_a_search_that_never_stalls_is_measured_once(make: MakeRun) -> None:
    """If the rule never stops a search, both stopping points are the same row."""
    assert all(pair.auto is pair.steps for pair in measure(make(learning_rate=1e-12, steps=4), seeds=1))


def _row(subject: str, seed: int, forwards: int, clip_i: float) -> Row:
    figures = Figures(clip_i, 0.5, None, 0.75, 1.0, None, None)
    return Row("a", "default, ended", "subjects", "test", subject, seed, forwards, figures)


def test_the_table_has_both_points_and_the_spread() -> None:
    """Means over seeds for each subject, then over all; the spread is that of complete searches."""
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
    assert verdict(pairs).startswith(
        "2 of 4 searches stop early and 25% of all evaluations are saved; CLIP-I"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "1"], "error: --seeds: got 1; expected 2 or more"),
        (["--subjects", "99"], "error: --subjects: got 99; expected 1 to 12, the subjects of the test split"),
        (["--set", "steps=5000"], "error: settings.steps: got 5000; expected at most 1024"),
        (["--set", "seed=5"], "error: settings.seed: got 5; expected another setting"),
    ],
)
def test_bad_options_give_one_message(given: list[str], message: str, tmp_path: Path) -> None:
    """A bad option gives one line before anything is searched."""
    with pytest.raises(SystemExit) as stopped:
        stopping.main(["--out", str(tmp_path), *given])
    assert str(stopped.value).startswith(message)
    assert not list(tmp_path.iterdir())
