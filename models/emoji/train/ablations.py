"""`python -m models.emoji.train.ablations`: what an equal share of processor time buys, one change at a time.

Every trial starts from fresh weights, trains for the same processor seconds while its rate falls, and is judged on
the same noisy rows of pictures that no training sees, those of individuals apart: not every trial has been shown any.
Processor seconds, not the clock's: other work on the machine changes little.
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
JUDGED_BATCHES = 4
DECAY_SHARE = 0.5  # of the time, at the end


@dataclass(frozen=True)
class Ablation:
    """Changes to the shipped settings, the share of the pictures of individuals that is kept, and the loss."""

    changes: Mapping[str, Any]
    individuals: float = 1.0
    loss: type[DiffusionLoss] = DiffusionLoss


class MinSnrLoss(DiffusionLoss):
    """The loss with less weight where there is little noise.

    Source: arXiv:2303.09556 (Min-SNR-γ with γ = 5, for v-prediction)
    """

    def combined(self, errors: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The mean over rows, each weighed by min(SNR, 5) / (SNR + 1)."""
        ratio = (self.signal / self.noise).square()[timesteps]
        return (errors * (ratio.clamp(max=5.0) / (ratio + 1))).mean()


class LateLoss(DiffusionLoss):
    """The loss with more weight where there is much noise, and words decide."""

    def combined(self, errors: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The mean over rows, each weighed by 1/2 + t/T."""
        weights = 0.5 + timesteps.view(-1, 1, 1, 1) / len(self.noise)
        return (errors * weights).mean()


ABLATIONS: Mapping[str, Ablation] = {
    "as shipped": Ablation({}),
    "narrower (48, 96)": Ablation({"channels": (48, 96)}),
    "wider (96, 192)": Ablation({"channels": (96, 192)}),
    "three levels (64, 96, 128)": Ablation({"channels": (64, 96, 128)}),
    "one layer a level": Ablation({"layers_per_block": 1}),
    "batch 64": Ablation({"batch": 64}),
    "batch 256": Ablation({"batch": 256}),
    "half the rate": Ablation({"rate": 1e-3}),
    "twice the rate": Ablation({"rate": 4e-3}),
    "uniform timesteps": Ablation({"logit_normal_share": 0.0}),
    "logit-normal timesteps": Ablation({"logit_normal_share": 1.0}),
    "no individuals": Ablation({}, individuals=0.0),
    "a quarter of the individuals": Ablation({}, individuals=0.25),
    "loss weighed by min-SNR": Ablation({}, loss=MinSnrLoss),
    "loss weighed by the noise": Ablation({}, loss=LateLoss),
}


def thinned(pictures: PictureSet, world: World, share: float) -> PictureSet:
    """The set with that share of its pictures of individuals; the others all stay."""
    seen, kept = 0, []
    for index, is_one in enumerate(of_individuals(pictures, world)):
        if is_one:
            seen += 1
            if int(seen * share) == int((seen - 1) * share):
                continue
        kept.append(index)
    return subset(pictures, kept)


def of_individuals(pictures: PictureSet, world: World) -> list[bool]:
    """Of each picture, whether its caption names an individual."""
    return [not world.individuals.keys().isdisjoint(text.split()) for text in pictures.captions]


def subset(pictures: PictureSet, kept: Sequence[int]) -> PictureSet:
    """Some pictures of a set with all that belongs to them."""
    captions, scenes = ([column[k] for k in kept] for column in (pictures.captions, pictures.scenes))
    return PictureSet(pictures.pictures[list(kept)], captions, scenes)  # type: ignore[arg-type]


def train_for(seconds: float, nets: Networks, loss: DiffusionLoss, settings: DiffusionSettings) -> int:
    """Train for so many processor seconds, the average left in the networks; the pictures seen."""
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
class Outcome:
    """What a trial saw and came to."""

    pictures: int
    parameters: int
    loss: float  # on held-back pictures without individuals, at uniform timesteps
    individuals: float  # the same on held-back pictures of individuals, by their names


def run_ablation(
    trial: Ablation, settings: DiffusionSettings, world: World, pictures: PictureSet, seconds: float
) -> Outcome:
    """Train and judge one trial."""
    torch.manual_seed(0)
    changed = dataclasses.replace(settings, **trial.changes)
    nets, components = load_networks(changed, world, None), read_components()
    plain_attention(nets.unet, nets.text_encoder)
    for part in (nets.unet, nets.text_encoder):
        part.to(best_device())
    vocabulary = build_vocabulary(world.words)
    shown = thinned(pictures, world, trial.individuals)
    seen = train_for(seconds, nets, trial.loss(nets, changed, shown, components, vocabulary), changed)
    judged = dataclasses.replace(
        settings, batch=HELD_BACK, logit_normal_share=0.0, caption_dropout=0.0, styled_share=0.0
    )
    held_back = compose_set(VALIDATION_SEED, 2 * HELD_BACK)
    losses = []
    for wanted in (False, True):
        rows = [k for k, is_one in enumerate(of_individuals(held_back, world)) if is_one is wanted]
        measure = DiffusionLoss(nets, judged, subset(held_back, rows), components, vocabulary)
        with torch.no_grad():
            losses.append(sum(measure(step).item() for step in range(JUDGED_BATCHES)) / JUDGED_BATCHES)
    return Outcome(seen, sum(param.numel() for param in nets.named_parameters().values()), *losses)


def chosen(names: str | None) -> list[str]:
    """The trials asked for; all for None.

    Raises:
        EmojiModelError: a name that no trial has.
    """
    wanted = names.split(";") if names else list(ABLATIONS)
    for name in wanted:
        if name not in ABLATIONS:
            raise EmojiModelError(f"--only {name}: allowed: {'; '.join(ABLATIONS)}")
    return wanted


def check_seconds(seconds: float) -> float:
    """The processor seconds of a trial.

    Raises:
        EmojiModelError: there are none of them, or no end of them.
    """
    if not 0 < seconds < math.inf:
        raise EmojiModelError(f"--seconds {seconds:g}: allowed: numbers above 0")
    return seconds


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.train.ablations", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder of the training set")
    parser.add_argument("--seconds", type=float, default=240, help="processor seconds of a trial")
    parser.add_argument("--only", help="names of trials with semicolons between; all if left out")
    options = parser.parse_args()
    try:
        seconds = check_seconds(options.seconds)
        settings, world = read_settings().diffusion, shipped_world()
        names, pictures = chosen(options.only), read_dataset(options.work / "data", world)
        sys.stdout.write("| trial | pictures | parameters | loss | of individuals |\n|---|---|---|---|---|\n")
        for name in names:
            found = run_ablation(ABLATIONS[name], settings, world, pictures, seconds)
            size, losses = found.parameters / 1e6, f"{found.loss:.4f} | {found.individuals:.4f}"
            sys.stdout.write(f"| {name} | {found.pictures} | {size:.1f} M | {losses} |\n")
            sys.stdout.flush()
    except EmojiModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
