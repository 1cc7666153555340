"""Tokens rebuilt from few directions: the algebra, the recorded trajectory, and reuse of finished rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.quality import dimensions as dimensions_module
from benchmarks.quality.cases.subjects import Case
from benchmarks.quality.dimensions import Dimensions, table
from benchmarks.quality.learning import snapshots
from benchmarks.quality.learning.methods import METHODS, Plan, make_plans
from benchmarks.quality.learning.snapshots import search
from benchmarks.quality.learning.trajectories import (
    cuts,
    powers_below,
    principal_directions,
    random_directions,
    record_trajectory,
)
from benchmarks.quality.metrics import Instruments
from benchmarks.quality.run import BenchmarkSetup, Selection
from benchmarks.quality.sources import BundleCache
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.grid import GAP_PX, TILE_PX

DIMENSIONS = 12


def _trajectory(directions: int) -> torch.Tensor:
    """Return a random walk in the first `directions` dimensions."""
    generator = torch.Generator().manual_seed(0)
    moves = torch.zeros(40, DIMENSIONS)
    moves[:, :directions] = torch.randn(40, directions, generator=generator)
    return torch.cat([torch.ones(1, DIMENSIONS), 1 + moves.cumsum(dim=0)])


def test_directions_are_orthonormal() -> None:
    """Both kinds are orthonormal rows, and the random ones are deterministic."""
    for rows in (principal_directions(_trajectory(DIMENSIONS)), random_directions(DIMENSIONS)):
        torch.testing.assert_close(rows @ rows.T, torch.eye(DIMENSIONS, dtype=torch.float64))
    assert torch.equal(random_directions(DIMENSIONS), random_directions(DIMENSIONS))


def test_the_direction_that_moved_most_comes_first() -> None:
    """A trajectory that moves steadily along one dimension has that dimension as its first direction."""
    points = _trajectory(DIMENSIONS)
    points[:, 7] += torch.arange(len(points)) * 20
    assert abs(float(principal_directions(points)[0, 7])) > 0.99


def test_a_low_dimensional_trajectory_needs_few_directions() -> None:
    """As many principal directions as the trajectory has restore its end; random ones do not."""
    found = {(cut.directions, cut.kept): cut for cut in cuts(_trajectory(4))}
    end = _trajectory(4)[-1]
    torch.testing.assert_close(found["principal", 4].token, end)
    assert found["principal", 4].share == pytest.approx(1)
    assert found["principal", 2].share < 0.999
    assert found["random", 4].share < 0.9


def test_cuts_run_from_nothing_to_all() -> None:
    """Cuts are the start, every power of two below d in both kinds, and the end; the share grows with k."""
    points = _trajectory(DIMENSIONS)
    found = list(cuts(points))
    kept = [(cut.directions, cut.kept) for cut in found]
    assert kept[0] == ("none", 0)
    assert kept[1:-1] == [(name, k) for k in (1, 2, 4, 8) for name in ("principal", "random")]
    assert kept[-1] == ("all", DIMENSIONS)
    assert torch.equal(found[0].token, points[0])
    assert torch.equal(found[-1].token, points[-1])
    for name in ("principal", "random"):
        shares = [cut.share for cut in found if cut.directions in (name, "none", "all")]
        assert shares == sorted(shares)
    change = (points[-1] - points[0]).square().sum()
    for cut in found:
        assert cut.share == pytest.approx(float((cut.token - points[0]).square().sum() / change), abs=1e-5)


@pytest.mark.parametrize(("dimensions", "powers"), [(1, []), (2, [1]), (9, [1, 2, 4, 8]), (8, [1, 2, 4])])
def test_powers_stay_below_the_dimensions(dimensions: int, powers: list[int]) -> None:
    """The number of dimensions itself is not included, because it has a separate cut."""
    assert powers_below(dimensions) == powers


def _plan(method: str, entry: BaseModelEntry, forwards: int) -> tuple[Plan, BundleCache]:
    bundles = BundleCache(entry, device="cpu")
    changes = {"fixed_rows": 2}
    (plan,) = make_plans(
        METHODS[method], entry, bundles.at().family, seed=1, forwards=(forwards,), changes=changes
    )
    return plan, bundles


@pytest.mark.slow
@pytest.mark.parametrize(("method", "forwards"), [("paper", 12), ("ti-0.01", 48)])
def test_an_interrupted_trajectory_ends_on_the_same_bits(
    method: str,
    forwards: int,
    entry: BaseModelEntry,
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trajectory runs from the initializer to the tokens of the search; an interrupted one has the same bits."""
    monkeypatch.setattr(snapshots, "CHECKPOINT_EVERY_S", 0.0)
    plan, bundles = _plan(method, entry, forwards)
    whole = record_trajectory(plan, bundles.at(), few_cases, tmp_path / "whole", lambda _: None)
    (snapshot,) = search(plan, bundles.at(), few_cases, tmp_path / "whole", lambda _: None)
    assert torch.equal(whole[-1], snapshot.tokens)
    assert torch.equal(whole[0, 0], whole[0, 1])
    assert len(whole) == 1 + 4

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    cuts_off = 0
    while True:
        try:
            resumed = record_trajectory(plan, bundles.at(), few_cases, tmp_path / "cut", interrupt)
            break
        except KeyboardInterrupt:
            cuts_off += 1
    assert cuts_off == 4
    assert torch.equal(resumed, whole)


@pytest.mark.slow
def test_a_long_trajectory_is_thinned(
    entry: BaseModelEntry, few_cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more steps than points, only every second step and the last one are kept."""
    monkeypatch.setattr("benchmarks.quality.learning.trajectories.POINTS", 3)
    plan, bundles = _plan("paper", entry, 15)
    points = record_trajectory(plan, bundles.at(), few_cases, tmp_path, lambda _: None)
    assert len(points) == 1 + 3
    (snapshot,) = search(plan, bundles.at(), few_cases, tmp_path, lambda _: None)
    assert torch.equal(points[-1], snapshot.tokens)


@pytest.mark.slow
def test_a_finished_run_is_not_measured_again(
    entry: BaseModelEntry,
    tools: Instruments,
    few_cases: list[Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every cut of both cases has a row and a grid cell; a second run draws nothing."""
    chosen = Selection(tmp_path, prompts=1, pictures=1, changes={"fixed_rows": 2}, device="cpu")

    def make() -> Dimensions:
        return Dimensions(BenchmarkSetup(entry, chosen, tools, lambda _: None), "paper", forwards=6, seed=0)

    rows = list(make().rows())
    widths = 32  # of the narrow model
    assert len(rows) == 2 * (2 + 2 * len(powers_below(widths)))
    make().write_grids(rows)
    with Image.open(tmp_path / "dimensions-subjects-paper.png") as grid:
        assert grid.width == GAP_PX + (3 + len(powers_below(widths))) * (TILE_PX + GAP_PX)

    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(dimensions_module, "draw", forbidden)
    assert table(list(make().rows())) == table(rows)


@pytest.mark.slow
def test_missing_pictures_leave_the_grid_unchanged(
    entry: BaseModelEntry,
    tools: Instruments,
    few_cases: list[Case],
    tmp_path: Path,
    lose_pictures: LosePictures,
) -> None:
    """Rows whose pictures are missing give the table and leave an existing grid unchanged."""
    chosen = Selection(tmp_path, prompts=1, pictures=1, changes={"fixed_rows": 2}, device="cpu")

    def run() -> list[dimensions_module.CutRow]:
        made = Dimensions(BenchmarkSetup(entry, chosen, tools, lambda _: None), "paper", forwards=6, seed=0)
        rows = list(made.rows())
        made.write_grids(rows)
        return rows

    rows, grid = run(), tmp_path / "dimensions-subjects-paper.png"
    whole = grid.read_bytes()
    for _ in lose_pictures(tmp_path):
        assert run() == rows
        assert grid.read_bytes() == whole
    grid.unlink()
    assert run() == rows
    assert not grid.exists()


def test_an_anchor_has_no_trajectory() -> None:
    """An anchor is refused before a model is loaded; the message lists the expected methods."""
    with pytest.raises(
        SystemExit, match=r"error: --method: got caption; expected calibrated, full, gf-ti, paper"
    ):
        dimensions_module.main(["--method", "caption"])
