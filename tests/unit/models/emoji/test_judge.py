"""The judge: labels, masked attributes and accuracy on real pictures."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from models.emoji.compose import draw_scene
from models.emoji.errors import CheckpointError
from models.emoji.judge import ATTRIBUTES, judge_labels, read_judge
from models.emoji.train.checkpoint import write_weights
from models.emoji.train.data import as_tensor
from models.emoji.train.judge_training import attribute_losses, sample_any_scene
from models.emoji.world import Scene, shipped_world

FIRST_SEED = 50_000_000


@pytest.mark.slow
def test_the_judge_classifies_real_pictures() -> None:
    """Accuracy is at least 0.95 for every attribute on composed pictures without a style."""
    world = shipped_world()
    scenes = []
    for seed in range(FIRST_SEED, FIRST_SEED + 200):
        scene = sample_any_scene(random.Random(seed), world)
        scenes.append(Scene(scene.object, scene.color, scene.pattern, scene.background))
    pictures = np.stack([np.asarray(draw_scene(scene, random.Random(9), world)) for scene in scenes])
    shares = read_judge().right(as_tensor(pictures), scenes).float().mean(0)
    for name, share in zip(ATTRIBUTES, shares.tolist(), strict=True):
        assert share >= 0.95, name


def test_labels_follow_the_scene() -> None:
    """The class of an attribute is its index in the world's list, or 0 if the attribute is absent."""
    world = shipped_world()
    scene = Scene("dog", "", "spotted", "in the snow", ("", "framed"))
    name, color, pattern, background, color_filter, form_filter = judge_labels([scene], world)[0].tolist()
    assert world.objects[name] == "dog"
    assert (color, color_filter) == (0, 0)
    assert world.patterns[pattern - 1] == "spotted"
    assert world.backgrounds[background] == "in the snow"
    assert world.form_filters[form_filter - 1] == "framed"


def test_color_filters_mask_color_and_background() -> None:
    """Wrong logits of color and background do not change the loss of a sepia picture, only that of a plain one."""
    labels = torch.tensor([[0, 1, 0, 2, 1, 0], [0, 1, 0, 2, 0, 0]])
    logits = [torch.zeros(2, size) for size in (60, 9, 3, 18, 5, 5)]
    before = attribute_losses(logits, labels)
    logits[1][0, 3], logits[3][0, 5] = 50.0, 50.0
    assert torch.equal(attribute_losses(logits, labels), before)
    logits[1][1, 3] = 50.0
    assert attribute_losses(logits, labels) > before + 10


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """The message for weights of another network has their path."""
    write_weights(tmp_path / "judge.safetensors", {"a": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"judge\.safetensors: not the weights"):
        read_judge(tmp_path / "judge.safetensors")
