"""Figures of the embedded model: a name, a measured value and an acceptance threshold."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel

from benchmarks.model.drawing import draw, read_tokenizer
from benchmarks.model.inversion import Inversion
from benchmarks.model.prompts import Prompt
from models.emoji.compose import draw_scene, scene_caption
from models.emoji.export import MAX_FILE_BYTES
from models.emoji.judge import ATTRIBUTES, Judge
from models.emoji.train.autoencoder import psnr_db
from models.emoji.train.components import PATCH_PX, read_components
from models.emoji.train.data import VALIDATION_SEED, as_tensor, compose_set
from models.emoji.train.device import batches
from models.emoji.train.judge_training import UNSEEN_SEED, attribute_accuracy, compose_labeled_chunk
from models.emoji.train.networks import read_part
from models.emoji.world import PLAIN, Scene, World

ALL_THREE, BACKGROUND, STYLE = "object, color and pattern", "background", "style"
MAX_MEGABYTES = 40.0
MAX_SECONDS = 6.0
MIN_DECIBELS = 28.0
INVERTED_SUBJECTS = 8
INVERSION_BACKGROUNDS = (
    "on white",
    "in the snow",
    "on the grass",
    "by a brick wall",
    "on teal",
    "in the night",
)

Others = Callable[[Scene, World, random.Random], list[Scene]]


@dataclass(frozen=True)
class Figure:
    """One measured value with its acceptance threshold."""

    name: str
    value: float
    threshold: float | None = None
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the threshold is met; None without a threshold."""
        if self.threshold is None:
            return None
        return self.value <= self.threshold if self.at_most else self.value >= self.threshold


def judged(
    name: str,
    pipeline: Any,
    judge: Judge,
    prompts: list[Prompt],
    seeds: int,
    thresholds: Mapping[str, float | None],
) -> tuple[list[Figure], torch.Tensor]:
    """Return the judge's accuracies over all prompts and seeds, and the pictures of the first seed."""
    drawn = [draw(pipeline, [prompt.text for prompt in prompts], seed=1000 * seed) for seed in range(seeds)]
    scenes = [prompt.scene for prompt in prompts]
    right = torch.cat([judge.right(pictures, scenes) for pictures in drawn])
    shares = {attribute: right[:, index].float().mean().item() for index, attribute in enumerate(ATTRIBUTES)}
    shares[ALL_THREE] = right[:, :3].all(1).float().mean().item()
    shares[STYLE] = right[:, 4:].all(1).float().mean().item()
    shown = [
        key for key in shares if key in thresholds or (key in ATTRIBUTES[:4] and STYLE not in thresholds)
    ]
    return [Figure(f"{name}: {key}", shares[key], thresholds.get(key)) for key in shown], drawn[0]


class Scorer:
    """The CLIP pair of a model folder."""

    def __init__(self, folder: Path) -> None:
        """Load it.

        Raises:
            CheckpointError: the CLIP pair is missing or truncated.
        """
        self.model = read_part(CLIPModel, folder / "scorer").eval()
        self.tokenizer = read_tokenizer(folder / "scorer")


def with_other_objects(scene: Scene, world: World, rng: random.Random) -> list[Scene]:
    """Return the scene with nine other objects."""
    others = rng.sample([name for name in world.trained_objects if name != scene.object], 9)
    return [replace(scene, object=name) for name in others]


def with_other_styles(scene: Scene, world: World, rng: random.Random) -> list[Scene]:
    """Return the scene in nine other styles."""
    others = rng.sample([style for style in world.styles if style != scene.style], 9)
    return [replace(scene, style=style) for style in others]


def composed(scenes: list[Scene], world: World) -> torch.Tensor:
    """Compose the scenes, [n, 3, 64, 64] in [-1, 1], as a reference for the CLIP pair's choices."""
    drawn = [draw_scene(scene, random.Random(place), world) for place, scene in enumerate(scenes)]
    return as_tensor(np.stack([np.asarray(picture) for picture in drawn]))


@torch.no_grad()
def chosen_by_clip(
    scorer: Scorer, pictures: torch.Tensor, scenes: list[Scene], others: Others, world: World
) -> float:
    """Return the share of pictures whose caption the CLIP pair prefers to those of nine other scenes."""
    rng, right = random.Random(0), 0
    for picture, scene in zip(pictures, scenes, strict=True):
        texts = [scene_caption(one) for one in (scene, *others(scene, world, rng))]
        ids = scorer.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        scores = scorer.model(input_ids=ids, pixel_values=picture[None]).logits_per_image[0]
        right += int(scores.argmax() == 0)
    return right / len(scenes)


@torch.no_grad()
def reconstruction(pipeline: Any, count: int) -> list[Figure]:
    """Return PSNR and seams of the autoencoder on validation pictures."""
    targets = compose_set(VALIDATION_SEED, count).batch(range(count))
    vae = pipeline.vae
    decoded = torch.cat(
        [vae.decode(vae.encode(part).latent_dist.mean).sample for part in batches(targets, 50)]
    )
    components = read_components()
    linear = components.decode(components.encode(targets))
    return [
        Figure("reconstruction", psnr_db(decoded, targets).mean().item(), MIN_DECIBELS, unit="dB"),
        Figure("reconstruction: seams, 1 for none", seams(decoded) / seams(targets)),
        Figure("reconstruction: seams, linear decoder", seams(linear) / seams(targets)),
    ]


def seams(pictures: torch.Tensor) -> float:
    """Return the ratio of pixel steps at patch borders to those inside patches; pictures [n, 3, h, w]."""
    at, inside = [], []
    for axis in (2, 3):
        steps = pictures.diff(dim=axis).abs().mean(dim=(0, 1, 5 - axis))
        border = (torch.arange(len(steps)) + 1) % PATCH_PX == 0
        at.append(steps[border])
        inside.append(steps[~border])
    return float(torch.cat(at).mean() / torch.cat(inside).mean())


def weight(folder: Path) -> Figure:
    """Return the size of the shipped folder."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Figure("folder", size / 1e6, MAX_MEGABYTES, at_most=True, unit="MB")


def largest_file(folder: Path) -> Figure:
    """Return the size of the largest file of the folder."""
    size = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Figure("largest file", size / 1e6, MAX_FILE_BYTES / 1e6, at_most=True, unit="MB")


def drawing_time(pipeline: Any) -> Figure:
    """Return the seconds for four pictures of 20 steps."""
    prompts = ["a photo of a cat on red"] * 4
    draw(pipeline, prompts, seed=0)
    start = time.perf_counter()
    draw(pipeline, prompts, seed=0)
    return Figure("20 steps for 4 images", time.perf_counter() - start, MAX_SECONDS, at_most=True, unit="s")


def judge_on_real(judge: Judge, count: int) -> list[Figure]:
    """Return the judge's accuracies on composed pictures that it was not trained on."""
    pictures, labels = compose_labeled_chunk(range(UNSEEN_SEED, UNSEEN_SEED + count))
    shares = attribute_accuracy(judge, as_tensor(pictures.numpy()), labels)
    return [Figure(f"judge on real images: {name}", share, 0.95) for name, share in shares.items()]


def inversion(
    pipeline: Any, judge: Judge, world: World, shapes: bool, steps: int
) -> tuple[Figure, torch.Tensor]:
    """Run Textual Inversion with backpropagation on held-out subjects or shapes; return accuracy and pictures."""
    subjects = list(world.held_out.subjects[:INVERTED_SUBJECTS])
    initializers = [name for name, _, _ in subjects]
    if shapes:  # no word names a held-out shape, so start from any trained object
        subjects = [(shape, PLAIN, PLAIN) for shape in world.held_out.shapes]
        initializers = ["cat"] * len(subjects)
    search = Inversion(pipeline, world, subjects, initializers)
    search.train(steps)
    pictures, scenes = search.draw(list(INVERSION_BACKGROUNDS), seed=7)
    right = judge.right(pictures, scenes)[:, :3].all(1).float().mean().item()
    kind = "shapes" if shapes else "subjects"
    name = f"backprop TI, held-out {kind}: {ALL_THREE}"
    return Figure(name, right, None if shapes else 0.85), pictures
