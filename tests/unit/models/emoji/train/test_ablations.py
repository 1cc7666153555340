"""Ablations of the training: their settings, data and losses."""

import dataclasses

import pytest
import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import read_settings
from models.emoji.train.ablations import (
    ABLATIONS,
    HighNoiseLoss,
    MinSnrLoss,
    check_seconds,
    keep_named_instances,
    run_ablation,
    select_ablations,
)
from models.emoji.train.data import compose_set
from models.emoji.train.diffusion import DiffusionLoss
from models.emoji.train.sampling import signal_and_noise
from models.emoji.world import shipped_world


def test_every_ablation_differs_from_the_shipped_training() -> None:
    """Each ablation but the first differs in settings, share of named instances or loss."""
    settings = read_settings().diffusion
    for name, ablation in ABLATIONS.items():
        same = dataclasses.replace(settings, **ablation.changes) == settings
        same = same and (ablation.named_instances, ablation.loss) == (1, DiffusionLoss)
        assert same is (name == "as shipped"), name


def test_only_named_instances_are_dropped() -> None:
    """Half of the pictures of named instances and all other pictures are kept."""
    world, pictures = shipped_world(), compose_set(0, 60)
    named = [not world.named_instances.keys().isdisjoint(text.split()) for text in pictures.captions]
    half = keep_named_instances(pictures, world, 0.5)
    assert len(half.captions) == 60 - sum(named) + sum(named) // 2
    assert len(half.pictures) == len(half.scenes) == len(half.captions)
    without = keep_named_instances(pictures, world, 0.0).captions
    assert without == [text for text, one in zip(pictures.captions, named, strict=True) if not one]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_time_is_refused(seconds: float) -> None:
    """Zero, negative, undefined and infinite processor times are refused."""
    check_seconds(0.5)
    with pytest.raises(EmojiModelError, match=r"--seconds: got .*; expected a number above 0"):
        check_seconds(seconds)


def test_an_unknown_ablation_is_refused() -> None:
    """The message lists the known ablations."""
    assert select_ablations("batch 64;batch 256") == ["batch 64", "batch 256"]
    with pytest.raises(EmojiModelError, match="--only: got 'batch 5'; expected one of as shipped; "):
        select_ablations("batch 5")


@pytest.mark.slow
def test_an_ablation_trains_and_measures() -> None:
    """An ablation of two processor seconds sees pictures and has finite validation losses."""
    world = shipped_world()
    small = dataclasses.replace(ABLATIONS["one layer per level"], changes={"layers_per_block": 1, "batch": 8})
    found = run_ablation(small, read_settings().diffusion, world, compose_set(0, 60), seconds=2)
    assert found.pictures >= 8
    assert 4e6 < found.parameters < 7e6
    assert 0 < found.loss < 2
    assert 0 < found.named_instances < 2
    assert found.loss != found.named_instances


def test_weighted_losses_have_the_documented_weights() -> None:
    """Unit errors at the start, middle and end of the schedule give the mean of the weights."""
    signal, noise = signal_and_noise()
    ones, timesteps = torch.ones(3, 16, 8, 8), torch.tensor([0, 500, 999])
    ratio = (signal / noise).square()[timesteps]
    min_snr, high_noise = MinSnrLoss.__new__(MinSnrLoss), HighNoiseLoss.__new__(HighNoiseLoss)
    for loss in (min_snr, high_noise):
        loss.signal, loss.noise = signal.view(-1, 1, 1, 1), noise.view(-1, 1, 1, 1)
    expected = (ratio.clamp(max=5) / (ratio + 1)).mean()
    assert min_snr.combined(ones, timesteps).item() == pytest.approx(expected.item())
    assert high_noise.combined(ones, timesteps).item() == pytest.approx((0.5 + 1.0 + 1.499) / 3, abs=1e-3)
