"""A work folder: what each of its parts starts from."""

from collections.abc import Iterable
from pathlib import Path

from diffusers import AutoencoderKL

from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.train.components import COMPONENTS_FILE, Components, read_components
from models.emoji.train.data import VALIDATION_SEED, compose_set
from models.emoji.train.networks import read_part
from models.emoji.train.pca_encoder import encoder_error

WITH_LATENTS = ("diffusion", "autoencoder")
PROBED = 16  # pictures that tell one map from another
SAME_MAP = 0.01  # mean squared difference of latents of variance 1; other maps differ by about 1


def _made(work: Path, part: str) -> Path:
    """The file of a part that has begun in this folder."""
    return work / (COMPONENTS_FILE.name if part == "components" else f"{part}.pt")


def _anew(work: Path, part: str) -> Path:
    """The empty file that says that a part of this folder is trained from fresh weights."""
    return work / f"{part}.anew"


def mark_fresh_start(work: Path, parts: Iterable[str]) -> None:
    """Have these parts start from fresh weights, also when the training is cut and goes on without --anew.

    Raises:
        EmojiModelError: one of them has been trained or fitted in this folder already; names its file.
    """
    wanted = list(parts)
    for path in (_made(work, part) for part in wanted):
        if path.exists():
            go_on = "" if path.name == COMPONENTS_FILE.name else "leave --anew out to go on from it, "
            raise EmojiModelError(
                f"--anew starts afresh, but {path} is there: {go_on}remove it, or name another --work"
            )
    work.mkdir(parents=True, exist_ok=True)
    for part in wanted:
        _anew(work, part).touch()


def is_fresh_start(work: Path, part: str) -> bool:
    """Whether a part of this folder is trained from fresh weights."""
    return _anew(work, part).exists()


def start_folder(work: Path, part: str, start: Path) -> Path | None:
    """The model folder that a part starts from; None if it starts anew, or goes on from its checkpoint.

    Args:
        work: the work folder.
        part: of the training.
        start: the model folder that was asked for.

    Raises:
        CheckpointError: the folder's latents are not those of the components in the work folder.
    """
    if is_fresh_start(work, part) or _made(work, part).exists():
        return None
    own = work / COMPONENTS_FILE.name
    if part in WITH_LATENTS and own.exists():
        check_components(start, read_components(own))
    return start


def check_components(folder: Path, components: Components) -> None:
    """Pass if a model folder's latents are those of the components: its encoder is their map.

    Raises:
        CheckpointError: they are others, or the folder has no encoder.
    """
    pictures = compose_set(VALIDATION_SEED, PROBED).batch(range(PROBED))
    if encoder_error(read_part(AutoencoderKL, folder / "vae"), components, pictures) > SAME_MAP:
        raise CheckpointError(
            f"{folder} was trained on other principal components than the work folder's: "
            "train from fresh weights (--anew), or remove the work folder's components.safetensors"
        )
