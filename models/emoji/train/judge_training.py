"""Train the judge on composed pictures of the whole world, including held-out items and degraded pictures."""

import random
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from models.emoji.compose import draw_scene
from models.emoji.judge.network import (
    ATTRIBUTES,
    CHANNELS,
    WEIGHTS,
    Judge,
    classes_of,
    judge_labels,
    read_judge,
)
from models.emoji.settings import JudgeSettings
from models.emoji.train.checkpoint import write_weights
from models.emoji.train.compatibility import check_sizes, compatibility_key
from models.emoji.train.components import Components, read_components
from models.emoji.train.data import as_tensor, map_chunks
from models.emoji.train.device import autocast, batches, best_device
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.optimizer import Optimizer
from models.emoji.world import PLAIN, Scene, World, shipped_world

PART = "judge"
SEEN_SEED, UNSEEN_SEED = 20_000_000, 30_000_000  # training and validation, far from the model's seeds
UNSEEN = 2_000
STYLE_SHARE = 0.4
COLOR_FILTER = ATTRIBUTES.index("color filter")
HIDDEN_BY_COLOR_FILTER = (ATTRIBUTES.index("color"), ATTRIBUTES.index("background"))


def sample_any_scene(rng: random.Random, world: World) -> Scene:
    """Sample a scene of the whole world, including held-out items."""
    style = rng.choice(world.styles) if rng.random() < STYLE_SHARE else (PLAIN, PLAIN)
    color = rng.choice(list(world.colors)) if rng.random() < 0.65 else PLAIN
    pattern = rng.choice(world.patterns) if rng.random() < 0.45 else PLAIN
    return Scene(rng.choice(world.objects), color, pattern, rng.choice(world.backgrounds), style)


def compose_labeled_chunk(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Compose byte pictures [n, 64, 64, 3] with their classes [n, 6] for a range of seeds."""
    world = shipped_world()
    scenes = [sample_any_scene(random.Random(seed), world) for seed in seeds]
    drawn = [
        np.asarray(draw_scene(one, random.Random(~seed), world))
        for seed, one in zip(seeds, scenes, strict=True)
    ]
    return torch.from_numpy(np.stack(drawn)), judge_labels(scenes, world)


def degrade(pictures: torch.Tensor, components: Components, rng: torch.Generator) -> torch.Tensor:
    """Degrade pictures as a model might: a quarter is blurred, a quarter has seams, and all are noisy."""
    kind = torch.rand(len(pictures), generator=rng)[:, None, None, None]
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    seamed = components.decode(components.encode(pictures))
    pictures = torch.where(kind < 0.25, blurred, torch.where(kind < 0.5, seamed, pictures))
    amplitude = 0.06 * torch.rand(len(pictures), 1, 1, 1, generator=rng)
    return pictures + amplitude * torch.randn(pictures.shape, generator=rng)


def attribute_losses(logits: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the summed cross entropy of all attributes.

    Color and background count only in pictures without a color filter, which would hide them.
    """
    clear = labels[:, COLOR_FILTER] == 0
    total = torch.zeros((), device=labels.device)
    for index, rows in enumerate(logits):
        each = functional.cross_entropy(rows.float(), labels[:, index], reduction="none")
        total = total + (each[clear].mean() if index in HIDDEN_BY_COLOR_FILTER else each.mean())
    return total


def attribute_accuracy(judge: Judge, pictures: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return the share of correctly classified pictures by attribute."""
    device = next(judge.parameters()).device
    with torch.no_grad():
        rows = [judge(part.to(device)) for part in batches(pictures, 250)]
    found = [torch.cat(logits).cpu() for logits in zip(*rows, strict=True)]
    clear = labels[:, COLOR_FILTER] == 0
    shares = {}
    for index, name in enumerate(ATTRIBUTES):
        correct = (found[index].argmax(1) == labels[:, index]).float()
        shares[name] = float(correct[clear].mean() if index in HIDDEN_BY_COLOR_FILTER else correct.mean())
    return shares


def compose_labeled_set(first_seed: int, count: int, processes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Compose pictures with their classes for `count` seeds, starting at `first_seed`."""
    parts = map_chunks(PART, compose_labeled_chunk, range(first_seed, first_seed + count), processes)
    pictures, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return pictures, labels


def load_judge(settings: JudgeSettings, world: World, from_scratch: bool) -> Judge:
    """Load the committed judge, or create a new one.

    Raises:
        CheckpointError: the committed weights are missing, truncated, or of other sizes.
    """
    if from_scratch:
        return Judge(world, settings.channels)
    check_sizes(PART, settings.sizes, {"channels": CHANNELS}, WEIGHTS)
    return read_judge().requires_grad_(True)


def train_judge(
    settings: JudgeSettings, world: World, folder: Path, from_scratch: bool, processes: int
) -> None:
    """Train the judge; write checkpoint and weights to `folder`.

    Raises:
        CheckpointError: the initial weights or the checkpoint do not match the settings.
        DivergedError: the loss is not finite.
    """
    components, device = read_components(), best_device()
    judge = load_judge(settings, world, from_scratch)
    judge.to(device)
    optimizer = Optimizer(dict(judge.named_parameters()), settings.rate, settings.average)

    def loss(step: int) -> torch.Tensor:
        rng = step_generator(PART, step)
        chosen = torch.randint(0, len(pictures), (settings.batch,), generator=rng)
        batch = degrade(as_tensor(pictures[chosen].numpy()), components, rng)
        with autocast(device):
            logits = judge(batch.to(device))
        return attribute_losses(logits, labels[chosen].to(device))

    def log_samples(step: int) -> None:
        write_weights(folder / f"{PART}.safetensors", judge.state_dict())
        real = as_tensor(unseen.numpy())
        degraded = degrade(real, components, step_generator(PART, -1 - step))
        for kind, batch in (("real", real), ("degraded", degraded)):
            shares = attribute_accuracy(judge, batch, classes)
            log(PART, kind + ": " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))

    key = compatibility_key(settings, [name for names in classes_of(world) for name in names])
    training = Training(PART, settings, folder, key, optimizer, loss, log_samples)
    training.resume(None if from_scratch else WEIGHTS)  # fail before composing, which takes minutes
    pictures, labels = compose_labeled_set(SEEN_SEED, settings.composed, processes)
    unseen, classes = compose_labeled_set(UNSEEN_SEED, UNSEEN, processes)
    training.run()
