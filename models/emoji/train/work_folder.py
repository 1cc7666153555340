"""The work folder of a training: where each part starts from."""

from collections.abc import Iterable
from pathlib import Path

from diffusers import AutoencoderKL

from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.train.components import COMPONENTS_FILE, Components, read_components
from models.emoji.train.data import VALIDATION_SEED, compose_set
from models.emoji.train.networks import read_part
from models.emoji.train.pca_encoder import encoder_error

WITH_LATENTS = ("diffusion", "autoencoder")
PROBE_PICTURES = 16
MAX_ENCODER_ERROR = 0.01  # mean squared error of latents with variance 1; other components give about 1


def _output_file(work: Path, part: str) -> Path:
    """Return the file that a part writes to the folder."""
    return work / (COMPONENTS_FILE.name if part == "components" else f"{part}.pt")


def _fresh_marker(work: Path, part: str) -> Path:
    """Return the empty file that marks a part as trained from new weights."""
    return work / f"{part}.anew"  # existing work folders have files of this name


def mark_fresh_start(work: Path, parts: Iterable[str]) -> None:
    """Mark these parts to start from new weights, also when an interrupted training is resumed.

    Raises:
        EmojiModelError: the folder already has a checkpoint or fitted components of a part.
    """
    wanted = list(parts)
    for path in (_output_file(work, part) for part in wanted):
        if path.exists():
            resume = "" if path.name == COMPONENTS_FILE.name else "omit --from-scratch to resume from it, "
            raise EmojiModelError(
                f"--from-scratch: {path} exists; {resume}remove it, or choose another --work"
            )
    work.mkdir(parents=True, exist_ok=True)
    for part in wanted:
        _fresh_marker(work, part).touch()


def is_fresh_start(work: Path, part: str) -> bool:
    """Return whether a part of this folder is trained from new weights."""
    return _fresh_marker(work, part).exists()


def start_folder(work: Path, part: str, start: Path) -> Path | None:
    """Return the model folder that a part starts from; None for new weights or a checkpoint.

    Args:
        work: the work folder.
        part: of the training.
        start: the requested model folder.

    Raises:
        CheckpointError: the model folder was trained on other components than those in the work folder.
    """
    if is_fresh_start(work, part) or _output_file(work, part).exists():
        return None
    fitted = work / COMPONENTS_FILE.name
    if part in WITH_LATENTS and fitted.exists():
        check_components(start, read_components(fitted))
    return start


def check_components(folder: Path, components: Components) -> None:
    """Validate that a model folder's encoder computes the given components.

    Raises:
        CheckpointError: the components differ, or the folder has no encoder.
    """
    pictures = compose_set(VALIDATION_SEED, PROBE_PICTURES).batch(range(PROBE_PICTURES))
    if encoder_error(read_part(AutoencoderKL, folder / "vae"), components, pictures) > MAX_ENCODER_ERROR:
        raise CheckpointError(
            f"{folder}: trained on other principal components than the work folder's; "
            "train with --from-scratch, or remove components.safetensors from the work folder"
        )
