"""A model folder in diffusers' layout, made whole beside its place: whatever fails leaves the old one as it was."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from diffusers import DDPMScheduler
from safetensors import SafetensorError

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import EmojiModelError
from models.emoji.tokenizer import write_tokenizer
from models.emoji.train.device import Network
from models.emoji.train.schedule import SCHEDULER
from models.emoji.world import World

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


def write_folder(parts: Mapping[str, Network | Path], folder: Path, world: World) -> int:
    """The size in bytes of the folder, written whole beside its place before it takes it.

    Args:
        parts: by subfolder; networks are written in half precision, folders are copied as they are.
        folder: the place.
        world: of the tokenizer's words.

    Raises:
        EmojiModelError: a file is larger than the package may hold, the place holds something else than a model, or
            the disk refused; what was there is still there.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            whole = Path(beside) / "whole"
            _fill(whole, parts, world)
            _refuse_foreign(folder, whole)
            files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
            for path in files:
                if path.stat().st_size > MAX_FILE_BYTES:
                    raise EmojiModelError(
                        f"{path.name} has {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} may ship"
                    )
            size = sum(path.stat().st_size for path in files)
            _take_place(whole, folder, Path(beside) / "before")
    except (OSError, SafetensorError) as refused:
        raise EmojiModelError(f"{folder} could not be written: {refused}") from refused
    return size


def _fill(whole: Path, parts: Mapping[str, Network | Path], world: World) -> None:
    """Write every file of the folder."""
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
    """Pass if the place is free, or holds nothing that the new folder does not replace.

    Raises:
        EmojiModelError: names the first thing that would be lost.
    """
    if folder.exists() and not folder.is_dir():
        raise EmojiModelError(f"{folder} is not a folder")
    kept = sorted(path.name for path in folder.glob("*") if not (whole / path.name).exists())
    if kept:
        raise EmojiModelError(f"{folder} holds {kept[0]!r}, which is no part of a model: name another --out")


def _take_place(whole: Path, folder: Path, before: Path) -> None:
    """Put a whole folder at its place; the one that is there goes to `before`, and comes back if that fails."""
    if not folder.exists():
        whole.rename(folder)
        return
    folder.rename(before)
    try:
        whole.rename(folder)
    except OSError:
        before.rename(folder)
        raise
