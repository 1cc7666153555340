"""`python -m models.emoji.train.trials`: what an equal share of processor time buys, one change at a time.

Every trial starts from fresh weights, trains for the same processor seconds while its rate falls, and is judged on
the same noisy rows of pictures that no training sees. Processor seconds, not the clock's: other work on the machine
changes little.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import DiffusionSettings, read_settings
from models.emoji.tokenizer import build_vocabulary
from models.emoji.train.components import read_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, compose_set, read_set
from models.emoji.train.device import plain_attention
from models.emoji.train.diffusion import DiffusionLoss
from models.emoji.train.networks import Networks, networks
from models.emoji.train.optim import Optimiser
from models.emoji.world import World, shipped_world

HELD_BACK = 256
JUDGED_BATCHES = 4
DECAY_SHARE = 0.5  # of the time, at the end


@dataclass(frozen=True)
class Trial:
    """Changes to the shipped settings, and how many of the pictures of individuals are kept."""

    changes: Mapping[str, Any]
    individuals: float = 1.0


TRIALS: Mapping[str, Trial] = {
    "as shipped": Trial({}),
    "narrower (48, 96)": Trial({"channels": (48, 96)}),
    "wider (96, 192)": Trial({"channels": (96, 192)}),
    "three levels (64, 96, 128)": Trial({"channels": (64, 96, 128)}),
    "one layer a level": Trial({"layers_per_block": 1}),
    "batch 64": Trial({"batch": 64}),
    "batch 256": Trial({"batch": 256}),
    "half the rate": Trial({"rate": 1e-3}),
    "twice the rate": Trial({"rate": 4e-3}),
    "uniform timesteps": Trial({"logit_normal_share": 0.0}),
    "logit-normal timesteps": Trial({"logit_normal_share": 1.0}),
    "no individuals": Trial({}, individuals=0.0),
    "a quarter of the individuals": Trial({}, individuals=0.25),
}


def thinned(pictures: PictureSet, world: World, share: float) -> PictureSet:
    """The set with that share of its pictures of individuals; the others all stay."""
    seen, kept = 0, []
    for index, caption in enumerate(pictures.captions):
        if not world.individuals.keys().isdisjoint(caption.split()):
            seen += 1
            if int(seen * share) == int((seen - 1) * share):
                continue
        kept.append(index)
    captions, scenes = ([column[k] for k in kept] for column in (pictures.captions, pictures.scenes))
    return PictureSet(pictures.pictures[kept], captions, scenes)  # type: ignore[arg-type]


def train_for(seconds: float, nets: Networks, loss: DiffusionLoss, settings: DiffusionSettings) -> int:
    """Train for so many processor seconds, the average left in the networks; the pictures seen."""
    optimiser = Optimiser(nets.named_parameters(), settings.rate, settings.average)
    step, start = 0, time.process_time()
    while (spent := (time.process_time() - start) / seconds) < 1:
        loss(step).backward()  # type: ignore[no-untyped-call]
        optimiser.step(min((step + 1) / settings.warmup_steps, 1.0, (1 - spent) / DECAY_SHARE))
        step += 1
    for name, param in nets.named_parameters().items():
        param.data.copy_(optimiser.average[name])
    return step * settings.batch


def run_trial(
    trial: Trial, settings: DiffusionSettings, world: World, pictures: PictureSet, seconds: float
) -> tuple[int, float, float]:
    """Pictures seen, parameters in millions, and the loss on held-back pictures at uniform timesteps."""
    torch.manual_seed(0)
    changed = dataclasses.replace(settings, **trial.changes)
    nets, components = networks(changed, world, None), read_components()
    plain_attention(nets.unet, nets.text_encoder)
    vocabulary = build_vocabulary(world.words)
    shown = thinned(pictures, world, trial.individuals)
    seen = train_for(seconds, nets, DiffusionLoss(nets, changed, shown, components, vocabulary), changed)
    judged = dataclasses.replace(
        settings, batch=HELD_BACK, logit_normal_share=0.0, caption_dropout=0.0, styled_share=0.0
    )
    held_back = compose_set(VALIDATION_SEED, HELD_BACK)
    measure = DiffusionLoss(nets, judged, held_back, components, vocabulary)
    with torch.no_grad():
        losses = [measure(step).item() for step in range(JUDGED_BATCHES)]
    size = sum(param.numel() for param in nets.named_parameters().values()) / 1e6
    return seen, size, sum(losses) / len(losses)


def chosen(names: str | None) -> list[str]:
    """The trials asked for; all for None.

    Raises:
        EmojiModelError: a name that no trial has.
    """
    wanted = names.split(";") if names else list(TRIALS)
    for name in wanted:
        if name not in TRIALS:
            raise EmojiModelError(f"--only {name}: allowed: {'; '.join(TRIALS)}")
    return wanted


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.train.trials", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder of the training set")
    parser.add_argument("--seconds", type=float, default=240, help="processor seconds of a trial")
    parser.add_argument("--only", help="names of trials with semicolons between; all if left out")
    options = parser.parse_args()
    try:
        settings, world = read_settings().diffusion, shipped_world()
        names, pictures = chosen(options.only), read_set(options.work / "data", world)
        sys.stdout.write("| trial | pictures | parameters | held-back loss |\n|---|---|---|---|\n")
        for name in names:
            seen, size, loss = run_trial(TRIALS[name], settings, world, pictures, options.seconds)
            sys.stdout.write(f"| {name} | {seen} | {size:.1f} M | {loss:.4f} |\n")
            sys.stdout.flush()
    except EmojiModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
