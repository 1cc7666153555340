"""Averaged weights as a folder in diffusers' layout: `python -m models.emoji.export --work emoji-work`.

Parts without a checkpoint in the work folder keep the weights that the model folder has.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.settings import Settings, read_settings
from models.emoji.tokenizer import build_vocabulary, write_tokenizer
from models.emoji.train.checkpoint import read_checkpoint, replace_file
from models.emoji.train.clip import new_clip
from models.emoji.train.components import read_components
from models.emoji.train.device import Network
from models.emoji.train.folder import SHIPPED, new_text_encoder, new_unet, read_part
from models.emoji.train.schedule import SCHEDULER
from models.emoji.train.wiring import new_autoencoder
from models.emoji.world import World, shipped_world

MAX_FILE_BYTES = 16_000_000
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": PICTURE_PX, "width": PICTURE_PX},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": PICTURE_PX},
}


def averaged(work: Path, part: str, prefix: str = "") -> dict[str, torch.Tensor] | None:
    """The averaged weights of a part's checkpoint whose names begin with `prefix`, or None without a checkpoint.

    Raises:
        CheckpointError: the checkpoint is truncated or another part's.
    """
    state = read_checkpoint(work / f"{part}.pt", part)
    if state is None:
        return None
    average: dict[str, torch.Tensor] = state["optimiser"]["average"]
    return {name.removeprefix(prefix): weight for name, weight in average.items() if name.startswith(prefix)}


def _filled(module: Network, weights: dict[str, torch.Tensor], part: str) -> Network:
    """The module with averaged weights.

    Raises:
        CheckpointError: a weight is unknown to the module, or has another shape.
    """
    try:
        found = module.load_state_dict(weights, strict=False)
    except RuntimeError as mismatch:
        raise CheckpointError(f"the checkpoint of {part} does not fit the settings: {mismatch}") from mismatch
    if found.unexpected_keys:
        raise CheckpointError(
            f"the checkpoint of {part} has unknown weights, such as {found.unexpected_keys[0]!r}"
        )
    return module


def collect(work: Path, folder: Path, settings: Settings, world: World) -> dict[str, Network]:
    """The parts to export, by subfolder: averaged where there is a checkpoint, else as the folder has them.

    Raises:
        CheckpointError: a part is neither in the work folder nor in the model folder, or is broken.
    """
    vocabulary = build_vocabulary(world.words)
    fresh: dict[str, tuple[str, str, Any, Any]] = {
        "unet": ("diffusion", "unet.", UNet2DConditionModel, lambda: new_unet(settings.diffusion)),
        "text_encoder": (
            "diffusion",
            "text_encoder.",
            CLIPTextModel,
            lambda: new_text_encoder(settings.diffusion, vocabulary, world.words),
        ),
        "vae": (
            "autoencoder",
            "",
            AutoencoderKL,
            lambda: new_autoencoder(settings.autoencoder, read_components()),
        ),
        "scorer": ("clip", "", CLIPModel, lambda: new_clip(settings.clip, world)),
    }
    parts: dict[str, Network] = {}
    for name, (part, prefix, kind, new) in fresh.items():
        weights = averaged(work, part, prefix)
        if weights is None:
            parts[name] = read_part(kind, folder / name)
            continue
        weights = {key: weight for key, weight in weights.items() if not key.startswith("heads.")}
        parts[name] = _filled(new(), weights, part)
    return parts


def write_folder(parts: dict[str, Network], folder: Path, world: World) -> int:
    """The size in bytes of the folder, written whole beside its place and then moved there, file by file.

    Raises:
        EmojiModelError: a file is larger than the package may hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        whole = Path(beside)
        for name, part in parts.items():
            part.half().save_pretrained(whole / name)
        DDPMScheduler(**SCHEDULER).save_pretrained(whole / "scheduler")
        write_tokenizer(whole / "tokenizer", world.words)
        shutil.copytree(whole / "tokenizer", whole / "scorer", dirs_exist_ok=True)
        (whole / "scorer" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2))
        (whole / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2))
        files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
        for path in files:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise EmojiModelError(
                    f"{path.name} has {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} may ship"
                )
        size = sum(path.stat().st_size for path in files)
        for path in files:
            target = folder / path.relative_to(whole)
            replace_file(target, lambda half, path=path: path.replace(half))  # type: ignore[misc]
    return size


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.export", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder of the checkpoints")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the model folder")
    options = parser.parse_args()
    try:
        world = shipped_world()
        parts = collect(options.work, options.out, read_settings(), world)
        size = write_folder(parts, options.out, world)
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{size / 1e6:.1f} MB in {options.out}\n")


if __name__ == "__main__":
    main()
