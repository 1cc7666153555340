"""Export averaged weights as a diffusers model folder: `python -m models.emoji.export --work emoji-work`.

Parts without a checkpoint in the work folder are copied from the model folder in `--start`.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPModel, CLIPTextModel

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import CheckpointError, EmojiModelError, in_one_line
from models.emoji.settings import SETTINGS_FILE, Settings, read_settings
from models.emoji.tokenizer import write_tokenizer
from models.emoji.train.clip import new_clip
from models.emoji.train.compatibility import check_vocabulary, compatibility_key, read_averaged_weights
from models.emoji.train.components import work_components
from models.emoji.train.device import Network
from models.emoji.train.networks import SHIPPED, load_networks, read_part
from models.emoji.train.pca_encoder import new_autoencoder
from models.emoji.train.sampling import SCHEDULER
from models.emoji.train.work_folder import check_components
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
DRAWING: dict[str, Any] = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}


def load_weights(
    module: Network, weights: Mapping[str, torch.Tensor], part: str, prefix: str = ""
) -> Network:
    """Load the weights whose names start with `prefix` into the module and return it.

    Auxiliary heads, which exist during training only, are skipped.

    Raises:
        CheckpointError: the module does not have a weight of this name and shape.
    """
    own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    own = {name: weight for name, weight in own.items() if not name.startswith("heads.")}
    try:
        found = module.load_state_dict(own, strict=False)
    except RuntimeError as mismatch:
        raise CheckpointError(
            f"{part}: the checkpoint does not match the settings: {in_one_line(mismatch)}"
        ) from mismatch
    if found.unexpected_keys:
        raise CheckpointError(f"{part}: the checkpoint has the unknown weight {found.unexpected_keys[0]!r}")
    return module


def collect_parts(work: Path, folder: Path, settings: Settings, world: World) -> dict[str, Network | Path]:
    """Return the parts to export by subfolder: averaged weights, or the path of an untrained part in `folder`.

    Raises:
        CheckpointError: there is no checkpoint, a part is missing or broken, or the parts do not match in settings,
            words or components.
    """
    words, components = world.words, work_components(work)
    asked = {
        "diffusion": compatibility_key(settings.diffusion, words, components.digest),
        "autoencoder": compatibility_key(settings.autoencoder, components=components.digest),
        "clip": compatibility_key(settings.clip, words),
    }
    drawn, decoded, scored = (
        read_averaged_weights(work / f"{part}.pt", part, key) for part, key in asked.items()
    )
    if drawn is None and decoded is None and scored is None:
        raise CheckpointError(f"{work}: no checkpoint found; train a part first")
    if drawn is None or scored is None:
        check_vocabulary(words, folder)
    if (drawn is None) != (decoded is None):
        check_components(folder, components)
    parts: dict[str, Network | Path] = {}
    for name, kind in _untrained(drawn, decoded, scored).items():
        read_part(kind, folder / name)  # refuse to copy a broken part
        parts[name] = folder / name
    if drawn is not None:
        nets = load_networks(settings.diffusion, world, None)
        parts |= {name: load_weights(getattr(nets, name), drawn, "diffusion", f"{name}.") for name in DRAWING}
    if decoded is not None:
        parts["vae"] = load_weights(new_autoencoder(settings.autoencoder, components), decoded, "autoencoder")
    if scored is not None:
        parts["scorer"] = load_weights(new_clip(settings.clip, world), scored, "clip")
    return parts


def _untrained(drawn: object, decoded: object, scored: object) -> dict[str, Any]:
    """Return the classes of the parts without a checkpoint, by subfolder."""
    kinds = DRAWING if drawn is None else {}
    kinds = kinds if decoded is not None else kinds | {"vae": AutoencoderKL}
    return kinds if scored is not None else kinds | {"scorer": CLIPModel}


def write_folder(parts: Mapping[str, Network | Path], folder: Path, world: World) -> int:
    """Write the model folder atomically and return its size in bytes.

    The folder is built in a temporary directory and then renamed. A failure leaves the previous folder unchanged.

    Args:
        parts: by subfolder. Networks are written in half precision; paths are copied.
        folder: the destination.
        world: provides the tokenizer's words.

    Raises:
        EmojiModelError: a file is too large for the package, the destination holds files that are not part of a
            model, or writing failed.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            whole = Path(temporary) / "whole"
            _fill(whole, parts, world)
            _refuse_foreign(folder, whole)
            files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
            for path in files:
                if path.stat().st_size > MAX_FILE_BYTES:
                    raise EmojiModelError(
                        f"{path.name}: got {path.stat().st_size} bytes; expected at most {MAX_FILE_BYTES}"
                    )
            size = sum(path.stat().st_size for path in files)
            _take_place(whole, folder, Path(temporary) / "before")
    except (OSError, SafetensorError) as refused:
        raise EmojiModelError(f"{folder}: cannot write: {refused}") from refused
    return size


def _fill(whole: Path, parts: Mapping[str, Network | Path], world: World) -> None:
    """Write every file of the model folder."""
    for name, part in parts.items():
        if isinstance(part, Path):
            shutil.copytree(part, whole / name)
        else:
            part.half().save_pretrained(whole / name)
    DDPMScheduler(**SCHEDULER).save_pretrained(whole / "scheduler")
    write_tokenizer(whole / "tokenizer", world.words)
    shutil.copytree(whole / "tokenizer", whole / "scorer", dirs_exist_ok=True)
    (whole / "scorer" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2))
    (whole / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2))


def _refuse_foreign(folder: Path, whole: Path) -> None:
    """Validate that the destination is free or has only files that the new folder replaces.

    Raises:
        EmojiModelError: the destination is not a folder or holds another file.
    """
    if folder.exists() and not folder.is_dir():
        raise EmojiModelError(f"--out: got {folder}; expected a folder")
    kept = sorted(path.name for path in folder.glob("*") if not (whole / path.name).exists())
    if kept:
        raise EmojiModelError(f"--out: {folder} holds {kept[0]!r}, which is not part of a model")


def _take_place(whole: Path, folder: Path, before: Path) -> None:
    """Move the new folder to its destination; restore the previous folder if the move fails."""
    if not folder.exists():
        whole.rename(folder)
        return
    folder.rename(before)
    try:
        whole.rename(folder)
    except OSError:
        before.rename(folder)
        raise


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.export", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("emoji-work"), help="folder with the checkpoints")
    parser.add_argument("--settings", type=Path, default=SETTINGS_FILE, help="settings of the training")
    parser.add_argument(
        "--start", type=Path, default=SHIPPED, help="model folder that provides the untrained parts"
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="model folder to write")
    options = parser.parse_args(arguments)
    try:
        world = shipped_world()
        parts = collect_parts(options.work, options.start, read_settings(options.settings), world)
        size = write_folder(parts, options.out, world)
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{size / 1e6:.1f} MB in {options.out}\n")


if __name__ == "__main__":
    main()
