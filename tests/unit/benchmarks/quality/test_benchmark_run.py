"""A run of EmojiBooth on a narrow random model: resumed rows and searches, damaged files, the table."""

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
from benchmarks.quality.report.rows import Ledger, Row, parse_row
from benchmarks.quality.report.tables import table
from benchmarks.quality.run import Booth, Options, Selection
from benchmarks.quality.sources import Bundles
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.errors import ZoodipError

FIGURES = Figures(0.5, 0.25, None, 0.75, 1.0, 0.5, 0.25)
ROW = Row("a", "paper", "subjects", "report", "red fish", 0, 3000, FIGURES, 0.25, 9.0, 400.0)
MakeBooth = Callable[..., Booth]
NAMES = ("initializer", "caption", "real", "paper", "ti-0.01")


def test_a_finished_run_is_not_measured_again(
    booth: MakeBooth, few_cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method gives its rows and a grid; a second run draws and searches nothing and has the same table."""
    rows = booth(NAMES).run()
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
    assert table(booth(NAMES).run()) == table(rows)
    assert (tmp_path / "results.jsonl").read_bytes() == lines


def test_lost_pictures_leave_the_grid_as_it_was(
    booth: MakeBooth, few_cases: list[Case], tmp_path: Path, lose_pictures: LosePictures
) -> None:
    """Lines without all their pictures, as a published file of results has them, write no grid over a whole one."""
    rows, grid = booth(("paper",)).run(), tmp_path / "grid-subjects-paper.png"
    whole = grid.read_bytes()
    for _ in lose_pictures(tmp_path):
        assert booth(("paper",)).run() == rows
        assert grid.read_bytes() == whole
    grid.unlink()
    assert booth(("paper",)).run() == rows
    assert not grid.exists()


def test_other_defaults_of_a_model_measure_only_its_own_searches_again(
    booth: MakeBooth, few_cases: list[Case], tmp_path: Path
) -> None:
    """Anchors, backpropagation and the paper's settings keep their rows; `default` gets new ones."""
    rows = booth((*NAMES, "default")).run()
    changed = booth((*NAMES, "default"), n=3).run()
    assert changed[:-2] == rows[:-2]
    assert {row.id for row in changed[-2:]}.isdisjoint(row.id for row in rows)


def test_a_row_belongs_to_what_was_drawn_and_how(
    booth: MakeBooth, few_cases: list[Case], tmp_path: Path
) -> None:
    """Another text of a prompt, another guidance or another VAE: another id, where counts alone are the same."""
    one = booth(("initializer",))

    def ids() -> list[str]:
        return [one._id(source) for source in one.stage.sources("initializer", seeds=1, forwards=())]

    found, entry = ids(), one.stage.bundles.entry
    assert ids() == found
    kept = one.stage.asked
    one.stage.asked = [[replace(prompt, template=f"{prompt.template}!") for prompt in own] for own in kept]
    assert set(ids()).isdisjoint(found)
    one.stage.asked = kept
    one.stage.bundles.entry = entry.model_copy(update={"guidance_scale": 3.0})
    assert set(ids()).isdisjoint(found)
    assert entry.path is not None
    copied = shutil.copytree(entry.path, tmp_path / "copy")
    one.stage.bundles.entry = entry.model_copy(update={"path": copied})
    assert ids() == found
    (weights,) = (copied / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80?")
    assert set(ids()).isdisjoint(found)


def test_a_lost_row_is_measured_to_the_same_figures(
    booth: MakeBooth, few_cases: list[Case], tmp_path: Path
) -> None:
    """A run that stopped after the search and before a row draws that row alone, with the same figures."""
    rows = booth(("paper",), (3, 6)).run()
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    assert booth(("paper",), (3, 6)).run() == rows
    assert path.read_text() == "".join(lines)


@pytest.mark.parametrize(("method", "counts"), [("paper", (6, 9)), ("default", (9,)), ("ti-0.01", (36,))])
def test_an_interrupted_search_ends_on_the_same_bits(
    method: str,
    counts: tuple[int, ...],
    entry: BaseModelEntry,
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut off after any step, a search of all cases goes on to the tokens of an undisturbed one."""
    monkeypatch.setattr(snapshots, "CHECKPOINT_EVERY_S", 0.0)
    bundle = Bundles(entry, device="cpu").at()
    chosen = methods.plans(
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
            assert one.fixed_losses == other.fixed_losses


def test_a_smaller_count_asked_for_later_is_searched_from_the_start(
    entry: BaseModelEntry, few_cases: list[Case], tmp_path: Path
) -> None:
    """A checkpoint that lies beyond the count is not taken for it: the tokens are those of a fresh search."""
    bundle = Bundles(entry, device="cpu").at()

    def tokens(folder: str, *counts: int) -> Tensor:
        (plan,) = methods.plans(
            METHODS["paper"], entry, bundle.family, seed=0, forwards=counts, changes={"fixed_rows": 2}
        )
        return search(plan, bundle, few_cases, tmp_path / folder, lambda _: None)[0].tokens

    fresh, longer = tokens("fresh", 3), tokens("used", 9)
    assert not torch.equal(fresh, longer)
    assert torch.equal(tokens("used", 3), fresh)
    assert torch.equal(tokens("used", 9), longer)


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    """A row survives the file bit for bit; no file means no rows."""
    path = tmp_path / "out" / "results.jsonl"
    written = Ledger(path, parse_row)
    assert len(written) == 0
    other = replace(ROW, id="b", fixed_loss=None)
    for row in (ROW, other):
        written.add(row)
    read = Ledger(path, parse_row)
    assert (len(read), read["a"], read["b"]) == (2, ROW, other)


@pytest.mark.parametrize("damage", ["{", '{"id": 1}', "[]", "cut"])
def test_a_damaged_line_is_named(damage: str, tmp_path: Path) -> None:
    """A line that is no row stops the run with its number, before any model is loaded."""
    path = tmp_path / "results.jsonl"
    Ledger(path, parse_row).add(ROW)
    whole = path.read_text()
    path.write_text(whole + (whole[:-1] if damage == "cut" else damage + "\n"))
    with pytest.raises(BenchmarkError, match=r"results\.jsonl, line 2 is damaged"):
        Ledger(path, parse_row)


def test_the_table_averages_seeds_before_cases() -> None:
    """A case with two seeds counts once."""
    rows = [
        replace(ROW, figures=replace(FIGURES, right=right), subject=subject, seed=seed)
        for subject, seed, right in (("red fish", 0, 1.0), ("red fish", 1, 0.0), ("blue car", 0, 1.0))
    ]
    assert table(rows).splitlines()[2].startswith("| paper | 3000 | 0.75 (0.50–1.00) |")


def test_the_table_has_the_columns_that_somebody_has() -> None:
    """What one method has not is a dash; what no method has is no column."""
    anchor = replace(ROW, method="real", forwards=0, fixed_loss=None, seconds=None, peak_mb=None)
    both, alone = table([anchor, ROW]).splitlines(), table([anchor]).splitlines()
    assert both[0].endswith("| in another tint | CLIP-I | CLIP-T | fixed-set loss | s a case | peak, MB |")
    assert both[2].endswith("| 0.25 | 0.500 | 0.250 | – | – | – |")
    assert both[3].endswith("| 0.25 | 0.500 | 0.250 | 0.2500 | 9.0 | 400 |")
    assert alone[0].endswith("| in another tint | CLIP-I | CLIP-T |")
    assert alone[2] == "| real | 0 | 0.75 | 1.00 | 0.50 | 0.25 | 0.500 | 0.250 |"


def test_unknown_methods_are_told(booth: MakeBooth) -> None:
    """A name that is no method is told with all that are."""
    with pytest.raises(BenchmarkError, match=r"--methods magic: allowed: initializer, .*ti-0\.04"):
        booth(("paper", "magic"))


def test_a_count_below_one_step_is_told(booth: MakeBooth, few_cases: list[Case]) -> None:
    """Fewer forwards than one step takes is an error rather than a table of unlearned tokens."""
    with pytest.raises(BenchmarkError, match=r"--forwards 2: one step of paper takes 3"):
        booth(("initializer", "paper"), (2,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, r"settings\.n = 0: "),
        ({"foo": 1}, r"settings\.foo is no setting; allowed: "),
        ({"steps": 50}, r"^settings\.steps = 50: the run's own options say it"),
        ({"seed": 5}, r"^settings\.seed = 5: the run's own options say it"),
    ],
)
def test_a_change_that_no_search_could_have_is_told_before_the_anchors_are_drawn(
    changes: dict[str, object], message: str, entry: BaseModelEntry, tools: Instruments, tmp_path: Path
) -> None:
    """What --set cannot mean ends the run at once: nothing is measured, nothing is ignored without a word."""
    chosen = Selection(tmp_path / "out", changes=changes, device="cpu")
    with pytest.raises(ZoodipError, match=message):
        Booth(entry, Options(chosen, ("initializer", "paper")), tools, lambda _: None)
    assert not (tmp_path / "out").exists()
