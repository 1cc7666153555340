"""Trials of the training: what they change, and that they change nothing else."""

import dataclasses

import pytest

from models.emoji.errors import EmojiModelError
from models.emoji.settings import read_settings
from models.emoji.train.data import compose_set
from models.emoji.train.trials import TRIALS, chosen, run_trial, thinned
from models.emoji.world import shipped_world


def test_every_trial_changes_a_setting_that_there_is() -> None:
    """Each trial but the first differs from what ships, in the settings or in the share of individuals."""
    settings = read_settings().diffusion
    for name, trial in TRIALS.items():
        same = dataclasses.replace(settings, **trial.changes) == settings and trial.individuals == 1
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


def test_an_unknown_trial_is_refused() -> None:
    """The message lists the trials that there are."""
    assert chosen("batch 64;batch 256") == ["batch 64", "batch 256"]
    with pytest.raises(EmojiModelError, match="--only batch 5: allowed: as shipped; "):
        chosen("batch 5")


def test_a_trial_learns_and_is_judged() -> None:
    """A trial of two processor seconds sees pictures and gives a finite loss on held-back ones."""
    world = shipped_world()
    small = dataclasses.replace(TRIALS["one layer a level"], changes={"layers_per_block": 1, "batch": 8})
    seen, size, loss = run_trial(small, read_settings().diffusion, world, compose_set(0, 60), seconds=2)
    assert seen >= 8
    assert 4 < size < 7
    assert 0 < loss < 2
