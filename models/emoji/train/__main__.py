"""Train one part of the model, or all parts in order: `python -m models.emoji.train PART`.

Each part resumes from its checkpoint in `--work`. Without a checkpoint it starts from the shipped weights, or from
new weights with `--from-scratch`. `all` fits new principal components with `--from-scratch` only, because the shipped
weights depend on the committed ones.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.emoji.errors import EmojiModelError
from models.emoji.settings import SETTINGS_FILE, LoopSettings, Settings, read_settings
from models.emoji.train.autoencoder import train_autoencoder
from models.emoji.train.clip import train_clip
from models.emoji.train.components import fit_work_components, work_components
from models.emoji.train.dataset_file import read_dataset, write_dataset
from models.emoji.train.diffusion import train_diffusion
from models.emoji.train.judge_training import train_judge
from models.emoji.train.networks import SHIPPED, load_trained_networks
from models.emoji.train.work_folder import is_fresh_start, mark_fresh_start, start_folder
from models.emoji.world import World, shipped_world

TRAINED = ("diffusion", "autoencoder", "clip", "judge")
PARTS = ("data", "components", *TRAINED)


def with_budget(
    settings: Settings, parts: Sequence[str], pictures: int | None, decay: int | None, batch: int | None
) -> Settings:
    """Return the settings with another number of pictures, decay or batch size for the trained parts.

    Without `decay`, the learning rate falls over the same share of the pictures as in the settings.

    Raises:
        EmojiModelError: a value is out of range, or no part is trained.
    """
    options = (("pictures", pictures), ("decay", decay), ("batch", batch))
    changes = {name: value for name, value in options if value is not None}
    trained = [part for part in parts if part in TRAINED]
    if changes and not trained:
        raise EmojiModelError(
            f"--{min(changes)}: got the part {parts[0]}; expected {', '.join(TRAINED)} or all "
            f"(for {parts[0]}, set {parts[0]}.pictures in the settings file)"
        )
    replaced: dict[str, Any] = {part: _budgeted(part, getattr(settings, part), changes) for part in trained}
    return dataclasses.replace(settings, **replaced)


def _budgeted(part: str, given: LoopSettings, changes: dict[str, int]) -> LoopSettings:
    """Return the settings of a part with the changes and a proportional decay."""
    pictures = changes.get("pictures", given.pictures)
    try:
        return dataclasses.replace(given, **{"decay": given.decay * pictures // given.pictures, **changes})
    except EmojiModelError as refused:
        raise EmojiModelError(f"{part}.{refused}") from refused


def train_part(part: str, settings: Settings, world: World, work: Path, start: Path) -> None:
    """Train one part, resuming from its checkpoint.

    Raises:
        EmojiModelError: the training set, checkpoint or initial weights are missing, broken or incompatible.
    """
    if part == "data":
        write_dataset(work / "data", settings.data.pictures, settings.data.processes)
        return
    if part == "judge":  # composes its own training set, which includes held-out items
        train_judge(settings.judge, world, work, is_fresh_start(work, part), settings.data.processes)
        return
    pictures = read_dataset(work / "data", world)
    if part == "components":
        fit_work_components(work, pictures, settings.components.pictures)
        return
    initial = start_folder(work, part, start)
    if part == "diffusion":
        train_diffusion(settings.diffusion, world, pictures, work, initial)
    elif part == "clip":
        train_clip(settings.clip, world, pictures, work, initial)
    else:
        unet_folder = None if is_fresh_start(work, part) else start
        nets = load_trained_networks(settings.diffusion, world, work_components(work), work, unet_folder)
        train_autoencoder(settings.autoencoder, world, pictures, work, initial, nets)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.train", description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument(
        "--work", type=Path, default=Path("emoji-work"), help="folder for data, checkpoints and grids"
    )
    parser.add_argument("--settings", type=Path, default=SETTINGS_FILE, help="settings file")
    parser.add_argument("--start", type=Path, default=SHIPPED, help="model folder to start from")
    parser.add_argument(
        "--from-scratch", action="store_true", help="start from new weights; needs an empty work folder"
    )
    parser.add_argument("--pictures", type=int, help="pictures to see in total")
    parser.add_argument("--decay", type=int, help="pictures at the end over which the learning rate falls")
    parser.add_argument("--batch", type=int, help="pictures per step (diffusion on a GPU: 2048)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _options(arguments)
    torch.manual_seed(0)
    try:
        parts: Sequence[str] = PARTS if options.part == "all" else (options.part,)
        given = read_settings(options.settings)
        settings = with_budget(given, parts, options.pictures, options.decay, options.batch)
        if options.from_scratch:
            mark_fresh_start(options.work, parts)
        if options.part == "all" and not is_fresh_start(options.work, "components"):
            parts = [part for part in parts if part != "components"]
        for part in parts:
            train_part(part, settings, shipped_world(), options.work, options.start)
    except (EmojiModelError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
