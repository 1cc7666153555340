"""A run of EmojiBooth on a narrow model: resumed rows and searches, damaged files, the table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.quality import anchors, sources
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning import methods, snapshots
from benchmarks.quality.learning.methods import METHODS
from benchmarks.quality.learning.snapshots import search
from benchmarks.quality.metrics import Figures, Instruments
from benchmarks.quality.report.rows import Row, RowFile, parse_row
from benchmarks.quality.report.tables import table
from benchmarks.quality.run import BenchmarkRun, RunOptions, Selection
from benchmarks.quality.sources import BundleCache
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.errors import ZoodipError

FIGURES = Figures(0.5, 0.25, None, 0.75, 1.0, 0.5, 0.25)
ROW = Row("a", "paper", "subjects", "test", "red fish", 0, 3000, FIGURES, 0.25, 9.0, 400.0)
MakeRun = Callable[..., BenchmarkRun]
NAMES = ("initializer", "caption", "real", "paper", "ti-0.01")


@pytest.mark.slow
def test_a_finished_run_is_not_measured_again(
    benchmark: MakeRun, few_cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method gives rows and a grid; a second run draws and searches nothing and prints the same table."""
    rows = benchmark(NAMES).run()
    counts = {name: sum(row.method == name for row in rows) for name in NAMES}
    assert counts == {"initializer": 2, "caption": 2, "real": 2, "paper": 2, "ti-0.01": 2}
    assert {path.name for path in tmp_path.glob("*.png")} == {f"grid-subjects-{name}.png" for name in NAMES}
    lines = (tmp_path / "results.jsonl").read_bytes()

    def forbidden(*_: object) -> None:
        raise AssertionError

    for module, name in (
        (anchors, "draw"),
        (anchors, "compose_real"),
        (sources, "draw"),
        (sources, "search"),
    ):
        monkeypatch.setattr(module, name, forbidden)
    assert table(benchmark(NAMES).run()) == table(rows)
    assert (tmp_path / "results.jsonl").read_bytes() == lines


@pytest.mark.slow
def test_missing_pictures_leave_the_grid_unchanged(
    benchmark: MakeRun, few_cases: list[Case], tmp_path: Path, lose_pictures: LosePictures
) -> None:
    """Rows whose pictures are missing, as in a published file, leave an existing grid unchanged."""
    rows, grid = benchmark(("paper",)).run(), tmp_path / "grid-subjects-paper.png"
    whole = grid.read_bytes()
    for _ in lose_pictures(tmp_path):
        assert benchmark(("paper",)).run() == rows
        assert grid.read_bytes() == whole
    grid.unlink()
    assert benchmark(("paper",)).run() == rows
    assert not grid.exists()


@pytest.mark.slow
def test_new_defaults_change_only_the_default_method(
    benchmark: MakeRun, few_cases: list[Case], tmp_path: Path
) -> None:
    """New model defaults change the rows of `full` only."""
    rows = benchmark((*NAMES, "full")).run()
    changed = benchmark((*NAMES, "full"), n=3).run()
    assert changed[:-2] == rows[:-2]
    assert {row.id for row in changed[-2:]}.isdisjoint(row.id for row in rows)


def test_the_id_covers_prompts_and_drawing(benchmark: MakeRun, few_cases: list[Case], tmp_path: Path) -> None:
    """Another prompt text, guidance or VAE gives another id."""
    one = benchmark(("initializer",))

    def ids() -> list[str]:
        return [one._id(source) for source in one.setup.sources("initializer", one._options)]

    found, entry = ids(), one.setup.bundles.entry
    assert ids() == found
    kept = one.setup.prompts
    one.setup.prompts = [[replace(prompt, template=f"{prompt.template}!") for prompt in own] for own in kept]
    assert set(ids()).isdisjoint(found)
    one.setup.prompts = kept
    one.setup.bundles.entry = entry.model_copy(update={"guidance_scale": 3.0})
    assert set(ids()).isdisjoint(found)
    assert entry.path is not None
    copied = shutil.copytree(entry.path, tmp_path / "copy")
    one.setup.bundles.entry = entry.model_copy(update={"path": copied})
    assert ids() == found
    (weights,) = (copied / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80?")
    assert set(ids()).isdisjoint(found)


@pytest.mark.slow
def test_a_lost_row_is_measured_to_the_same_figures(
    benchmark: MakeRun, few_cases: list[Case], tmp_path: Path
) -> None:
    """A run that stopped between search and row draws only that row, with the same figures."""
    rows = benchmark(("paper",), (3, 6)).run()
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert benchmark(("paper",), (3, 6)).run() == rows
    assert path.read_text() == "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "counts"), [("paper", (6, 9)), ("full", (9,)), ("gf-ti", (28, 42)), ("ti-0.01", (36,))]
)
def test_an_interrupted_search_ends_on_the_same_bits(
    method: str,
    counts: tuple[int, ...],
    entry: BaseModelEntry,
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search interrupted after any step ends with the tokens of an uninterrupted one."""
    monkeypatch.setattr(snapshots, "CHECKPOINT_EVERY_S", 0.0)
    bundle = BundleCache(entry, device="cpu").at()
    chosen = methods.make_plans(
        METHODS[method], entry, bundle.family, seed=3, forwards=counts, changes={"fixed_rows": 2}
    )

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    for plan in chosen:
        whole = search(plan, bundle, few_cases, tmp_path / "whole", lambda _: None)
        cuts = 0
        while True:
            try:
                resumed = search(plan, bundle, few_cases, tmp_path / "cut", interrupt)
                break
            except KeyboardInterrupt:
                cuts += 1
        assert cuts >= 2
        for one, other in zip(whole, resumed, strict=True):
            assert torch.equal(one.tokens, other.tokens)
            assert one.validation_losses == other.validation_losses


@pytest.mark.slow
def test_a_shorter_length_is_searched_from_the_start(
    entry: BaseModelEntry, few_cases: list[Case], tmp_path: Path
) -> None:
    """A checkpoint past the requested length is not used: the tokens equal those of a fresh search."""
    bundle = BundleCache(entry, device="cpu").at()

    def tokens(folder: str, *counts: int) -> Tensor:
        (plan,) = methods.make_plans(
            METHODS["paper"], entry, bundle.family, seed=0, forwards=counts, changes={"fixed_rows": 2}
        )
        return search(plan, bundle, few_cases, tmp_path / folder, lambda _: None)[0].tokens

    fresh, longer = tokens("fresh", 3), tokens("used", 9)
    assert not torch.equal(fresh, longer)
    assert torch.equal(tokens("used", 3), fresh)
    assert torch.equal(tokens("used", 9), longer)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    """A row is read back unchanged; a missing file has no rows."""
    path = tmp_path / "out" / "results.jsonl"
    written = RowFile(path, parse_row)
    assert len(written) == 0
    other = replace(ROW, id="b", fixed_loss=None)
    for row in (ROW, other):
        written.add(row)
    read = RowFile(path, parse_row)
    assert (len(read), read["a"], read["b"]) == (2, ROW, other)


@pytest.mark.parametrize("damage", ["{", '{"id": 1}', "[]", "cut"])
def test_a_damaged_line_is_reported(damage: str, tmp_path: Path) -> None:
    """A damaged line stops the run with its number, before a model is loaded."""
    path = tmp_path / "results.jsonl"
    RowFile(path, parse_row).add(ROW)
    whole = path.read_text()
    path.write_text(whole + (whole[:-1] if damage == "cut" else damage + "\n"))
    with pytest.raises(BenchmarkError, match=r"results\.jsonl, line 2 is damaged"):
        RowFile(path, parse_row)


def test_the_table_averages_seeds_before_cases() -> None:
    """A case with two seeds counts once."""
    rows = [
        replace(ROW, figures=replace(FIGURES, attribute_accuracy=right), subject=subject, seed=seed)
        for subject, seed, right in (("red fish", 0, 1.0), ("red fish", 1, 0.0), ("blue car", 0, 1.0))
    ]
    assert table(rows).splitlines()[2].startswith("| paper | 3000 | 0.75 (0.50–1.00) |")


def test_empty_columns_are_left_out() -> None:
    """A missing figure is a dash; a column without figures is left out."""
    anchor = replace(ROW, method="real", forwards=0, fixed_loss=None, seconds=None, peak_mb=None)
    both, alone = table([anchor, ROW]).splitlines(), table([anchor]).splitlines()
    assert both[0].endswith("| recolor accuracy | CLIP-I | CLIP-T | validation loss | s/case | peak, MB |")
    assert both[2].endswith("| 0.25 | 0.500 | 0.250 | – | – | – |")
    assert both[3].endswith("| 0.25 | 0.500 | 0.250 | 0.2500 | 9.0 | 400 |")
    assert alone[0].endswith("| recolor accuracy | CLIP-I | CLIP-T |")
    assert alone[2] == "| real | 0 | 0.75 | 1.00 | 0.50 | 0.25 | 0.500 | 0.250 |"


def test_unknown_methods_are_refused(benchmark: MakeRun) -> None:
    """An unknown method is refused with the list of methods."""
    with pytest.raises(BenchmarkError, match=r"--methods: got magic; expected initializer, .*ti-0\.04"):
        benchmark(("paper", "magic"))


def test_a_length_below_one_step_is_refused(benchmark: MakeRun, few_cases: list[Case]) -> None:
    """A length below one step is an error instead of a table of untrained tokens."""
    with pytest.raises(BenchmarkError, match=r"--forwards: got 2; expected 3 or more, one step of paper"):
        benchmark(("initializer", "paper"), (2,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, r"settings\.n.* 0"),
        ({"foo": 1}, r"settings\.foo"),
        ({"steps": 50}, r"^settings\.steps: got 50; expected another setting"),
        ({"seed": 5}, r"^settings\.seed: got 5; expected another setting"),
    ],
)
def test_an_invalid_change_is_refused_before_anchors_are_drawn(
    changes: dict[str, object], message: str, entry: BaseModelEntry, tools: Instruments, tmp_path: Path
) -> None:
    """A bad --set ends the run before anything is measured."""
    chosen = Selection(tmp_path / "out", changes=changes, device="cpu")
    with pytest.raises(ZoodipError, match=message):
        BenchmarkRun(entry, RunOptions(chosen, ("initializer", "paper")), tools, lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("separate", [False, True])
def test_cases_share_random_numbers_unless_each_has_a_seed(
    separate: bool, entry: BaseModelEntry, few_cases: list[Case]
) -> None:
    """Two searches of one subject are equal with a shared seed and differ with a seed for each case."""
    bundle = BundleCache(entry, device="cpu").at()
    (plan,) = methods.make_plans(
        METHODS["paper"],
        entry,
        bundle.family,
        seed=0,
        forwards=(6,),
        changes={"fixed_rows": 1},
        seed_per_case=separate,
    )
    learner = snapshots.make_learner(plan, bundle, [few_cases[0]] * 2, None)
    learner.advance()
    one, other = learner.tokens()
    assert torch.equal(one, other) is not separate
