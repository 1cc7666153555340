"""Composing in chunks: in the seeds' order, by any number of processes, and never minutes in silence."""

import pytest

from models.emoji.train.chunks import by_chunks


@pytest.mark.parametrize("processes", [1, 2])
def test_chunks_hold_every_seed_in_order(processes: int) -> None:
    """The last chunk is a part of one."""
    chunks = by_chunks("data", list, range(7, 2507), processes)
    assert [seed for chunk in chunks for seed in chunk] == list(range(7, 2507))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_large_set_says_how_far_it_is(processes: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A line every ten thousand pictures, the last one too."""
    by_chunks("data", len, range(19_500), processes)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "data composed 10000 of 19500 pictures",
        "data composed 19500 of 19500 pictures",
    ]


def test_a_small_set_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Held-back pictures are composed in the midst of other logs."""
    by_chunks("data", len, range(9_000), 1)
    assert capsys.readouterr().out == ""
