"""Trials of the training: what they change, and that they change nothing else."""

import dataclasses

import pytest
import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import read_settings
from models.emoji.train.ablations import (
    ABLATIONS,
    LateLoss,
    MinSnrLoss,
    check_seconds,
    chosen,
    run_ablation,
    thinned,
)
from models.emoji.train.data import compose_set
from models.emoji.train.diffusion import DiffusionLoss
from models.emoji.train.sampling import signal_and_noise
from models.emoji.world import shipped_world


def test_every_trial_changes_a_setting_that_there_is() -> None:
    """Each trial but the first differs from what ships: in settings, share of individuals or loss."""
    settings = read_settings().diffusion
    for name, trial in ABLATIONS.items():
        same = dataclasses.replace(settings, **trial.changes) == settings
        same = same and (trial.individuals, trial.loss) == (1, DiffusionLoss)
        assert same is (name == "as shipped"), name


def test_thinning_takes_individuals_alone() -> None:
    """Half of the pictures of individuals stay, and every other picture."""
    world, pictures = shipped_world(), compose_set(0, 60)
    named = [not world.individuals.keys().isdisjoint(text.split()) for text in pictures.captions]
    half = thinned(pictures, world, 0.5)
    assert len(half.captions) == 60 - sum(named) + sum(named) // 2
    assert len(half.pictures) == len(half.scenes) == len(half.captions)
    without = thinned(pictures, world, 0.0).captions
    assert without == [text for text, one in zip(pictures.captions, named, strict=True) if not one]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_for_a_trial_is_refused(seconds: float) -> None:
    """A trial of no processor seconds would divide by them, and one of fewer, or of all there are, never end."""
    assert check_seconds(0.5) == 0.5
    with pytest.raises(EmojiModelError, match=r"--seconds .*: allowed: numbers above 0"):
        check_seconds(seconds)


def test_an_unknown_trial_is_refused() -> None:
    """The message lists the trials that there are."""
    assert chosen("batch 64;batch 256") == ["batch 64", "batch 256"]
    with pytest.raises(EmojiModelError, match="--only batch 5: allowed: as shipped; "):
        chosen("batch 5")


def test_a_trial_learns_and_is_judged() -> None:
    """A trial of two processor seconds sees pictures and gives a finite loss on held-back ones."""
    world = shipped_world()
    small = dataclasses.replace(ABLATIONS["one layer a level"], changes={"layers_per_block": 1, "batch": 8})
    found = run_ablation(small, read_settings().diffusion, world, compose_set(0, 60), seconds=2)
    assert found.pictures >= 8
    assert 4e6 < found.parameters < 7e6
    assert 0 < found.loss < 2
    assert 0 < found.individuals < 2
    assert found.loss != found.individuals


def test_weighed_losses_weigh_as_they_say() -> None:
    """Errors of one at the start, in the middle and at the end of the schedule."""
    signal, noise = signal_and_noise()
    ones, timesteps = torch.ones(3, 16, 8, 8), torch.tensor([0, 500, 999])
    ratio = (signal / noise).square()[timesteps]
    of_min_snr, of_noise = MinSnrLoss.__new__(MinSnrLoss), LateLoss.__new__(LateLoss)
    for loss in (of_min_snr, of_noise):
        loss.signal, loss.noise = signal.view(-1, 1, 1, 1), noise.view(-1, 1, 1, 1)
    expected = (ratio.clamp(max=5) / (ratio + 1)).mean()
    assert of_min_snr.combined(ones, timesteps).item() == pytest.approx(expected.item())
    assert of_noise.combined(ones, timesteps).item() == pytest.approx((0.5 + 1.0 + 1.499) / 3, abs=1e-3)
