"""`python -m models.emoji.train PART`: one part, or all of them one after the other.

Each part goes on from its checkpoint in `--work`; without one, from the shipped weights; without those, anew.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import FILE, LoopSettings, Settings, read_settings
from models.emoji.train.data import PictureSet, read_set, write_set
from models.emoji.train.folder import SHIPPED
from models.emoji.world import World, shipped_world

PARTS = ("data", "diffusion", "autoencoder", "clip", "judge")


def with_budget(settings: LoopSettings, pictures: int | None, decay: int | None) -> LoopSettings:
    """The settings of a part, with another number of pictures to see."""
    changes = {"pictures": pictures, "decay": decay}
    return dataclasses.replace(
        settings, **{name: value for name, value in changes.items() if value is not None}
    )


def train_part(part: str, settings: Settings, world: World, work: Path, start: Path | None) -> None:
    """Train one part, from its checkpoint on."""
    if part == "data":
        write_set(work / "data", settings.data.pictures, settings.data.processes)
        return
    if part == "judge":  # it composes its own pictures: it has to know what is held out, too
        from models.emoji.train.judge import train_judge

        train_judge(settings.judge, world, work, anew=start is None)
        return
    pictures: PictureSet = read_set(work / "data", world)
    if part == "diffusion":
        from models.emoji.train.diffusion import train_diffusion

        train_diffusion(settings.diffusion, world, pictures, work, start)
    elif part == "autoencoder":
        from models.emoji.train.autoencoder import train_autoencoder

        train_autoencoder(settings.autoencoder, world, pictures, work, start)
    else:
        from models.emoji.train.clip import train_clip

        train_clip(settings.clip, world, pictures, work, start)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.train", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument(
        "--work", type=Path, default=Path("emoji-work"), help="folder of data, checkpoints and grids"
    )
    parser.add_argument("--settings", type=Path, default=FILE)
    parser.add_argument("--start", type=Path, default=SHIPPED, help="model folder to start from")
    parser.add_argument("--anew", action="store_true", help="start from fresh weights")
    parser.add_argument("--pictures", type=int, help="pictures to see in all, instead of the settings'")
    parser.add_argument("--decay", type=int, help="pictures over which the rate falls at the end")
    options = parser.parse_args()
    torch.manual_seed(0)
    try:
        settings, world = read_settings(options.settings), shipped_world()
        for part in PARTS if options.part == "all" else (options.part,):
            if part != "data":
                changed: dict[str, Any] = {
                    part: with_budget(getattr(settings, part), options.pictures, options.decay)
                }
                settings = dataclasses.replace(settings, **changed)
            train_part(part, settings, world, options.work, None if options.anew else options.start)
    except EmojiModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
