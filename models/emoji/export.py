"""Averaged weights as a folder in diffusers' layout: `python -m models.emoji.export --work emoji-work`.

Parts without a checkpoint in the work folder are those of the model folder that the training started from.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from models.emoji.errors import CheckpointError, EmojiModelError, in_one_line
from models.emoji.model_folder import write_folder
from models.emoji.settings import FILE, Settings, read_settings
from models.emoji.train.clip import new_clip
from models.emoji.train.components import work_components
from models.emoji.train.device import Network
from models.emoji.train.fit import averaged, check_vocabulary, made_for
from models.emoji.train.folder import SHIPPED, read_part
from models.emoji.train.networks import networks
from models.emoji.train.wiring import new_autoencoder
from models.emoji.train.work import check_components
from models.emoji.world import World, shipped_world

DRAWING: dict[str, Any] = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


def filled(module: Network, weights: Mapping[str, torch.Tensor], part: str, prefix: str = "") -> Network:
    """The module with those weights whose names begin with `prefix`; what a training keeps for itself is left out.

    Raises:
        CheckpointError: a weight is unknown to the module, or has another shape.
    """
    own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    own = {name: weight for name, weight in own.items() if not name.startswith("heads.")}
    try:
        found = module.load_state_dict(own, strict=False)
    except RuntimeError as mismatch:
        raise CheckpointError(
            f"the checkpoint of {part} does not fit the settings: {in_one_line(mismatch)}"
        ) from mismatch
    if found.unexpected_keys:
        raise CheckpointError(
            f"the checkpoint of {part} has unknown weights, such as {found.unexpected_keys[0]!r}"
        )
    return module


def collect(work: Path, folder: Path, settings: Settings, world: World) -> dict[str, Network | Path]:
    """The parts to export, by subfolder: averaged where there is a checkpoint, else the place in the folder.

    Raises:
        CheckpointError: there is no checkpoint; or a part is missing, broken, or made for other settings, other words
            or other components than the rest.
    """
    words, components = world.words, work_components(work)
    asked = {
        "diffusion": made_for(settings.diffusion, words, components.digest),
        "autoencoder": made_for(settings.autoencoder, components=components.digest),
        "clip": made_for(settings.clip, words),
    }
    drawn, decoded, scored = (averaged(work / f"{part}.pt", part, made) for part, made in asked.items())
    if drawn is None and decoded is None and scored is None:
        raise CheckpointError(f"there is no checkpoint of any part in {work}: train one first")
    if drawn is None or scored is None:
        check_vocabulary(words, folder)
    if (drawn is None) != (decoded is None):
        check_components(folder, components)
    parts: dict[str, Network | Path] = {}
    for name, kind in _untrained(drawn, decoded, scored).items():
        read_part(kind, folder / name)  # a broken one is not passed on
        parts[name] = folder / name
    if drawn is not None:
        nets = networks(settings.diffusion, world, None)
        parts |= {name: filled(getattr(nets, name), drawn, "diffusion", f"{name}.") for name in DRAWING}
    if decoded is not None:
        parts["vae"] = filled(new_autoencoder(settings.autoencoder, components), decoded, "autoencoder")
    if scored is not None:
        parts["scorer"] = filled(new_clip(settings.clip, world), scored, "clip")
    return parts


def _untrained(drawn: object, decoded: object, scored: object) -> dict[str, Any]:
    """The classes of the parts that have no checkpoint, by subfolder."""
    kinds = DRAWING if drawn is None else {}
    kinds = kinds if decoded is not None else kinds | {"vae": AutoencoderKL}
    return kinds if scored is not None else kinds | {"scorer": CLIPModel}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.export", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder of the checkpoints")
    parser.add_argument("--settings", type=Path, default=FILE, help="that the checkpoints were trained with")
    parser.add_argument("--start", type=Path, default=SHIPPED, help="model folder of the untrained parts")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the model folder that is written")
    options = parser.parse_args(arguments)
    try:
        world = shipped_world()
        parts = collect(options.work, options.start, read_settings(options.settings), world)
        size = write_folder(parts, options.out, world)
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{size / 1e6:.1f} MB in {options.out}\n")


if __name__ == "__main__":
    main()
