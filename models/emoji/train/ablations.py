"""Compare changes of the training at equal processor time: `python -m models.emoji.train.ablations`.

Every ablation starts from new weights and trains for the same processor time. Its loss is measured on the same noisy
validation pictures, separately with and without named instances, because some ablations train on none of them.
Processor time depends less on other work on the machine than wall-clock time.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import DiffusionSettings, read_settings
from models.emoji.tokenizer import build_vocabulary
from models.emoji.train.components import read_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, compose_set
from models.emoji.train.dataset_file import read_dataset
from models.emoji.train.device import best_device, plain_attention
from models.emoji.train.diffusion import DiffusionLoss
from models.emoji.train.networks import Networks, load_networks
from models.emoji.train.optimizer import Optimizer
from models.emoji.world import World, shipped_world

HELD_BACK = 256
VALIDATION_BATCHES = 4
DECAY_SHARE = 0.5  # of the time, at the end, in which the learning rate falls


@dataclass(frozen=True)
class Ablation:
    """One variant of the training.

    Attributes:
        changes: to the shipped settings.
        named_instances: share of the pictures of named instances that is kept.
        loss: of the training.
    """

    changes: Mapping[str, Any]
    named_instances: float = 1.0
    loss: type[DiffusionLoss] = DiffusionLoss


class MinSnrLoss(DiffusionLoss):
    """Loss with less weight at low noise.

    Source: arXiv:2303.09556 (Min-SNR-γ with γ = 5, for v-prediction)
    """

    def combined(self, errors: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows, weighted by min(SNR, 5) / (SNR + 1)."""
        ratio = (self.signal / self.noise).square()[timesteps]
        return (errors * (ratio.clamp(max=5.0) / (ratio + 1))).mean()


class HighNoiseLoss(DiffusionLoss):
    """Loss with more weight at high noise, where the caption matters most."""

    def combined(self, errors: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the mean over rows, weighted by 1/2 + t/T."""
        weights = 0.5 + timesteps.view(-1, 1, 1, 1) / len(self.noise)
        return (errors * weights).mean()


ABLATIONS: Mapping[str, Ablation] = {
    "as shipped": Ablation({}),
    "narrower (48, 96)": Ablation({"channels": (48, 96)}),
    "wider (96, 192)": Ablation({"channels": (96, 192)}),
    "three levels (64, 96, 128)": Ablation({"channels": (64, 96, 128)}),
    "one layer per level": Ablation({"layers_per_block": 1}),
    "batch 64": Ablation({"batch": 64}),
    "batch 256": Ablation({"batch": 256}),
    "half the learning rate": Ablation({"rate": 1e-3}),
    "twice the learning rate": Ablation({"rate": 4e-3}),
    "uniform timesteps": Ablation({"logit_normal_share": 0.0}),
    "logit-normal timesteps": Ablation({"logit_normal_share": 1.0}),
    "no named instances": Ablation({}, named_instances=0.0),
    "a quarter of the named instances": Ablation({}, named_instances=0.25),
    "loss weighted by min-SNR": Ablation({}, loss=MinSnrLoss),
    "loss weighted by noise": Ablation({}, loss=HighNoiseLoss),
}


def keep_named_instances(pictures: PictureSet, world: World, share: float) -> PictureSet:
    """Return the set with this share of its pictures of named instances and all other pictures."""
    seen, kept = 0, []
    for index, is_named in enumerate(has_named_instance(pictures, world)):
        if is_named:
            seen += 1
            if int(seen * share) == int((seen - 1) * share):
                continue
        kept.append(index)
    return subset(pictures, kept)


def has_named_instance(pictures: PictureSet, world: World) -> list[bool]:
    """Return for each picture whether its caption contains a named instance."""
    return [not world.named_instances.keys().isdisjoint(text.split()) for text in pictures.captions]


def subset(pictures: PictureSet, kept: Sequence[int]) -> PictureSet:
    """Return some pictures of a set with their captions and scenes."""
    captions, scenes = ([column[k] for k in kept] for column in (pictures.captions, pictures.scenes))
    return PictureSet(pictures.pictures[list(kept)], captions, scenes)  # type: ignore[arg-type]


def train_for(seconds: float, nets: Networks, loss: DiffusionLoss, settings: DiffusionSettings) -> int:
    """Train for some processor seconds, load the averaged weights, and return the number of pictures seen."""
    optimizer = Optimizer(nets.named_parameters(), settings.rate, settings.average)
    step, start = 0, time.process_time()
    while (spent := (time.process_time() - start) / seconds) < 1:
        loss(step).backward()  # type: ignore[no-untyped-call]
        optimizer.step(min((step + 1) / settings.warmup_steps, 1.0, (1 - spent) / DECAY_SHARE))
        step += 1
    for name, param in nets.named_parameters().items():
        param.data.copy_(optimizer.average[name])
    return step * settings.batch


@dataclass(frozen=True)
class AblationResult:
    """The measurements of one ablation.

    Attributes:
        pictures: seen in training.
        parameters: of both networks.
        loss: on validation pictures without named instances, at uniform timesteps.
        named_instances: the loss on validation pictures of named instances.
    """

    pictures: int
    parameters: int
    loss: float
    named_instances: float


def run_ablation(
    ablation: Ablation, settings: DiffusionSettings, world: World, pictures: PictureSet, seconds: float
) -> AblationResult:
    """Train and measure one ablation."""
    torch.manual_seed(0)
    changed = dataclasses.replace(settings, **ablation.changes)
    nets, components = load_networks(changed, world, None), read_components()
    plain_attention(nets.unet, nets.text_encoder)
    for part in (nets.unet, nets.text_encoder):
        part.to(best_device())
    vocabulary = build_vocabulary(world.words)
    kept = keep_named_instances(pictures, world, ablation.named_instances)
    seen = train_for(seconds, nets, ablation.loss(nets, changed, kept, components, vocabulary), changed)
    validation = dataclasses.replace(
        settings, batch=HELD_BACK, logit_normal_share=0.0, caption_dropout=0.0, styled_share=0.0
    )
    held_back = compose_set(VALIDATION_SEED, 2 * HELD_BACK)
    losses = []
    for wanted in (False, True):
        rows = [k for k, is_named in enumerate(has_named_instance(held_back, world)) if is_named is wanted]
        loss = DiffusionLoss(nets, validation, subset(held_back, rows), components, vocabulary)
        with torch.no_grad():
            losses.append(sum(loss(step).item() for step in range(VALIDATION_BATCHES)) / VALIDATION_BATCHES)
    return AblationResult(seen, sum(param.numel() for param in nets.named_parameters().values()), *losses)


def select_ablations(names: str | None) -> list[str]:
    """Return the names in a semicolon-separated list; all names for None.

    Raises:
        EmojiModelError: a name is unknown.
    """
    wanted = names.split(";") if names else list(ABLATIONS)
    for name in wanted:
        if name not in ABLATIONS:
            raise EmojiModelError(f"--only: got {name!r}; expected one of {'; '.join(ABLATIONS)}")
    return wanted


def check_seconds(seconds: float) -> None:
    """Validate the processor time of an ablation.

    Raises:
        EmojiModelError: the time is not positive and finite.
    """
    if not 0 < seconds < math.inf:
        raise EmojiModelError(f"--seconds: got {seconds:g}; expected a number above 0")


def main() -> None:
    """Print the table; each line appears when it is measured."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.train.ablations", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder with the training set")
    parser.add_argument("--seconds", type=float, default=240, help="processor seconds per ablation")
    parser.add_argument("--only", help="names separated by semicolons; default: all")
    options = parser.parse_args()
    try:
        check_seconds(options.seconds)
        settings, world = read_settings().diffusion, shipped_world()
        names, pictures = select_ablations(options.only), read_dataset(options.work / "data", world)
        sys.stdout.write("| ablation | pictures | parameters | loss | loss of named instances |\n")
        sys.stdout.write("|---|---|---|---|---|\n")
        for name in names:
            result = run_ablation(ABLATIONS[name], settings, world, pictures, options.seconds)
            size, losses = result.parameters / 1e6, f"{result.loss:.4f} | {result.named_instances:.4f}"
            sys.stdout.write(f"| {name} | {result.pictures} | {size:.1f} M | {losses} |\n")
            sys.stdout.flush()
    except EmojiModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
