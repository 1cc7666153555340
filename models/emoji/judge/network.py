"""The judge's network, labels and predictions."""

from pathlib import Path

import torch
from torch import nn

from models.emoji.errors import CheckpointError, in_one_line
from models.emoji.train.checkpoint import read_weights
from models.emoji.train.device import batches
from models.emoji.world import PLAIN, Scene, World, shipped_world

WEIGHTS = Path(__file__).parent / "judge.safetensors"
ATTRIBUTES = ("object", "color", "pattern", "background", "color filter", "form filter")
CHANNELS = (24, 48, 96, 160)


def classes_of(world: World) -> tuple[tuple[str, ...], ...]:
    """Return the class names of each attribute."""
    return (
        world.objects,
        (PLAIN, *world.colors),
        (PLAIN, *world.patterns),
        world.backgrounds,
        (PLAIN, *world.color_filters),
        (PLAIN, *world.form_filters),
    )


def judge_labels(scenes: list[Scene], world: World) -> torch.Tensor:
    """Return the class indices of scenes, [n, 6]."""
    classes = [{name: index for index, name in enumerate(names)} for names in classes_of(world)]
    return torch.tensor(
        [[table[name] for table, name in zip(classes, one.attributes, strict=True)] for one in scenes]
    )


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a convolution with norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(8, outputs), nn.ReLU())


class Judge(nn.Module):
    """A small convolutional classifier of 64 × 64 pictures in [-1, 1]."""

    def __init__(self, world: World, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        a, b, c, d = channels
        plan = ((3, a, 2), (a, b, 2), (b, b, 1), (b, c, 2), (c, c, 1), (c, d, 2), (d, d, 1))
        self.body = nn.Sequential(*(_block(*one) for one in plan), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.heads = nn.ModuleList(nn.Linear(4 * d, len(names)) for names in classes_of(world))
        self.world = world

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of every attribute, [n, classes] each."""
        features = self.body(pictures)
        return [head(features) for head in self.heads]

    @torch.no_grad()
    def right(self, pictures: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
        """Return whether each attribute is classified correctly, [n, 6]; columns as in `ATTRIBUTES`."""
        found = torch.cat(
            [torch.stack([row.argmax(1) for row in self(part)], 1) for part in batches(pictures, 200)]
        )
        return found == judge_labels(scenes, self.world)


def read_judge(path: Path = WEIGHTS) -> Judge:
    """Load the judge from a file.

    Raises:
        CheckpointError: the file is missing, truncated, or has weights of another network.
    """
    judge = Judge(shipped_world())
    try:
        judge.load_state_dict(read_weights(path))
    except RuntimeError as mismatch:
        raise CheckpointError(f"{path}: not the weights of this judge: {in_one_line(mismatch)}") from mismatch
    return judge.eval().requires_grad_(False)
