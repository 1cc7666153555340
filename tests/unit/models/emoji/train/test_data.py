"""Composing pictures in parallel chunks, and sampling batches from them."""

import pytest
import torch

from models.emoji.errors import CheckpointError
from models.emoji.train.data import StyledSampler, map_chunks
from models.emoji.world import Scene

PLAIN_SCENE = Scene("cat", "", "", "on blue")
STYLED_SCENE = Scene("cat", "", "", "on blue", ("sepia", ""))


@pytest.mark.parametrize("processes", [1, 2])
def test_chunks_cover_every_seed_in_order(processes: int) -> None:
    """Chunks keep the order of the seeds, and the last chunk may be shorter."""
    chunks = map_chunks("data", list, range(7, 2507), processes)
    assert [seed for chunk in chunks for seed in chunk] == list(range(7, 2507))


@pytest.mark.parametrize("processes", [1, 2])
def test_large_sets_log_progress(processes: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The log has one line per 10,000 pictures and one for the last chunk."""
    map_chunks("data", len, range(19_500), processes)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "data composed 10000 of 19500 pictures",
        "data composed 19500 of 19500 pictures",
    ]


def test_small_sets_log_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Validation pictures are composed during training, so they must not add lines to its log."""
    map_chunks("data", len, range(9_000), 1)
    assert capsys.readouterr().out == ""


def test_styled_pictures_have_the_requested_share() -> None:
    """A share of 1 draws styled pictures only; a share of 0 draws as many as the set has; same seed, same batch."""
    scenes = [STYLED_SCENE] + [PLAIN_SCENE] * 9
    assert StyledSampler(scenes, 1.0)(50, torch.Generator().manual_seed(0)).unique().tolist() == [0]
    chosen = StyledSampler(scenes, 0.0)(2000, torch.Generator().manual_seed(0))
    assert 0.05 < (chosen == 0).float().mean() < 0.15
    assert torch.equal(chosen, StyledSampler(scenes, 0.0)(2000, torch.Generator().manual_seed(0)))


def test_a_set_without_styles_is_refused() -> None:
    """The message names the setting to increase when a set is too small to contain a style."""
    with pytest.raises(CheckpointError, match=r"got 3 pictures without a style.*data\.pictures"):
        StyledSampler([PLAIN_SCENE] * 3, 0.4)
