"""Fair shares of an iteration, counted in iterations and work."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from zoodip_core.fair_shares import FairShares


@dataclass(eq=False)
class _Drawing:
    """A generation that counts the iterations of its turns."""

    units: int = 2
    unit_cells: int = 64
    parameters: int = 1
    turns: list[int] = field(default_factory=list)


def _run(shares: FairShares, reserved: int, drawings: list[_Drawing], iterations: int) -> list[int]:
    """Return the cells of generations in each iteration."""
    cells = []
    for iteration in range(iterations):
        chosen = shares.allot(reserved, drawings)
        cells.append(sum(units * drawing.unit_cells for drawing, units in chosen))
        for drawing, _ in chosen:
            drawing.turns.append(iteration)
    return cells


def test_generations_alone_fill_the_iteration() -> None:
    """Without personalizations only the limit of an iteration counts; a unit that is larger runs alone."""
    small, huge = [_Drawing() for _ in range(10)], _Drawing(units=4, unit_cells=10_000)
    assert _run(FairShares(0.5, most_cells=640), 0, small, 2) == [640, 640]
    assert _run(FairShares(0.5, most_cells=640), 0, [huge], 2) == [10_000, 10_000]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_personalizations_keep_their_share(share: float) -> None:
    """Over any load their cells, with the overhead, are at least their share, and nearly the whole rest is used."""
    drawings = [_Drawing(unit_cells=64 * k) for k in range(1, 9)]
    cells = _run(FairShares(share, overhead_work=100), 400, drawings, 200)
    kept = 500 / (500 + sum(cells[20:]) / 180)
    assert share - 0.001 < kept < share + 0.03  # the last unit may leave a debt


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_large_base_models_count_more(share: float) -> None:
    """Searches on a small base model keep their share next to generations on one that is 130 times as large."""
    drawings = [_Drawing(units=2, unit_cells=1024, parameters=860) for _ in range(4)]
    cells = _run(FairShares(share), 16 * 64 * 6, drawings, 60_000)
    work = 860 * sum(cells[10_000:]) / 50_000  # the first units leave a long debt
    assert share - 0.001 < 6_144 / (6_144 + work) < share + 0.03


def test_debt_of_a_large_base_model_does_not_stop_a_small_one() -> None:
    """Both have half of the limit: the small one has a turn in every iteration, the large one in few."""
    small, large = _Drawing(units=50), _Drawing(units=1, unit_cells=1024, parameters=860)
    _run(FairShares(0.5), 16 * 64, [small, large], 2_000)
    assert len(small.turns) >= 1_999
    assert len(large.turns) == 2


def test_a_share_of_zero_limits_only_the_iteration() -> None:
    """Then generations fill each iteration up to its limit."""
    assert _run(FairShares(0.0, most_cells=640), 1, [_Drawing() for _ in range(10)], 1) == [640]


def test_every_generation_has_turns() -> None:
    """Fifty generations next to searches of 16 rows: the first turn and each wait are bounded in iterations."""
    drawings = [_Drawing() for _ in range(50)]  # 100 rows; an iteration has room for 16
    _run(FairShares(0.5), 16 * 64, drawings, 60)
    bound = -(-100 // 16)
    for drawing in drawings:
        waits = [later - earlier for earlier, later in zip(drawing.turns, drawing.turns[1:], strict=False)]
        assert drawing.turns[0] < bound
        assert max(waits) <= bound


def test_a_new_generation_starts_at_once_in_spite_of_a_debt() -> None:
    """A huge unit has used the share of many iterations; the next generation starts in the next one."""
    shares, huge, new = FairShares(0.5), _Drawing(units=1, unit_cells=100_000), _Drawing()
    _run(shares, 64, [huge], 1)
    assert _run(shares, 64, [huge], 3) == [0, 0, 0]
    assert _run(shares, 64, [huge, new], 2) == [64, 0]
    assert new.turns == [0]


def test_a_large_generation_does_not_delay_a_small_one() -> None:
    """One of 128 rows would fill every iteration; the small one has a turn in at least every second."""
    large, small = _Drawing(units=128), _Drawing()
    _run(FairShares(0.5, most_cells=16 * 64), 0, [large, small], 10)
    assert len(small.turns) >= 9
    assert len(large.turns) == 10
