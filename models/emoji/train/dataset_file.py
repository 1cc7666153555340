"""The training set on disk: composed once for one world and validated when it is read."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.sprite_files import FOLDER, read_hashes
from models.emoji.train.checkpoint import replace_file
from models.emoji.train.data import PictureSet, compose_set
from models.emoji.world import Scene, World, shipped_world

TRAINING_SEED = 0
INDEX, CAPTIONS, PICTURES = "scenes.json", "captions.json", "pictures.npy"
COMMAND = "`python -m models.emoji.train data`"


def write_dataset(folder: Path, count: int, processes: int) -> None:
    """Compose the training set in `folder`, unless a valid set with enough pictures exists.

    Raises:
        CheckpointError: a file cannot be written. An existing file is kept.
        OSError: the folder cannot be created.
        SpriteError: a sprite is missing or altered.
    """
    world = shipped_world()
    if _is_complete(folder, count, world):
        return
    folder.mkdir(parents=True, exist_ok=True)  # fail before composing, which takes minutes
    composed = compose_set(TRAINING_SEED, count, processes)
    captions = json.dumps(composed.captions).encode()
    index = dataset_index(world, captions, [scene.attributes for scene in composed.scenes])
    replace_file(folder / PICTURES, lambda path: _save_array(path, composed.pictures))
    replace_file(folder / CAPTIONS, lambda path: path.write_bytes(captions))
    replace_file(folder / INDEX, lambda path: path.write_text(json.dumps(index)))  # last: marks completion


def read_dataset(folder: Path, world: World) -> PictureSet:
    """Read the training set of a folder and check again for held-out items.

    Captions and scenes are verified by a digest; of the pictures only shape and type are checked.

    Raises:
        CheckpointError: the set is missing, broken, altered, or of another world.
        LeakError: a scene contains a held-out item.
    """
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder}: no training set; run {COMMAND} first")
    try:
        index = json.loads((folder / INDEX).read_text())
        pictures = np.lib.format.open_memmap(folder / PICTURES, mode="r")
        captions = (folder / CAPTIONS).read_bytes()
    except (OSError, ValueError, EOFError) as broken:
        raise _invalid(folder, f"cannot read ({broken})") from broken
    if not isinstance(index, dict) or index.keys() != {"world", "digest", "scenes"}:
        raise _invalid(folder, f"{INDEX} has another format (composed by another version)")
    if index["world"] != world_digest(world):
        raise _invalid(folder, "composed for another world")
    if index != dataset_index(world, captions, index["scenes"]):
        raise _invalid(folder, f"{CAPTIONS} or {INDEX} was altered")
    scenes = [
        Scene(name, color, pattern, background, (color_filter, form_filter))
        for name, color, pattern, background, color_filter, form_filter in index["scenes"]
    ]
    expected = (len(scenes), PICTURE_PX, PICTURE_PX, 3)
    if pictures.shape != expected or pictures.dtype != np.uint8:
        raise _invalid(
            folder, f"pictures: got {pictures.dtype} {list(pictures.shape)}; expected uint8 {list(expected)}"
        )
    for scene in scenes:
        world.held_out.check(scene)
    return PictureSet(pictures, json.loads(captions), scenes)


def dataset_index(world: World, captions: bytes, scenes: list[Any]) -> dict[str, Any]:
    """Return the index of a set: digest of its world, digest of captions and scenes, and the scenes."""
    digest = sha256(captions + json.dumps(scenes).encode()).hexdigest()
    return {"world": world_digest(world), "digest": digest, "scenes": scenes}


def world_digest(world: World) -> str:
    """Return the SHA-256 of the world's lists and of the sprites' hashes.

    The keys below are part of the stored format, not the names of Python fields: renaming a field must not
    invalidate stored training sets. A change of the composing code does not change the digest.
    """
    lists = {
        "sprites": world.sprites,
        "tints": world.colors,
        "plain_grounds": world.plain_backgrounds,
        "patterns": world.patterns,
        "scenes": world.painted_backgrounds,
        "colour_looks": world.color_filters,
        "form_looks": world.form_filters,
        "individuals": world.named_instances,
        "named_styles": world.named_styles,
        "held_out": {
            "subjects": world.held_out.subjects,
            "shapes": world.held_out.shapes,
            "styles": world.held_out.styles,
        },
    }
    return sha256(json.dumps([lists, read_hashes(FOLDER)]).encode()).hexdigest()


def _is_complete(folder: Path, count: int, world: World) -> bool:
    """Return whether the folder has a valid set with at least `count` pictures."""
    try:
        return len(read_dataset(folder, world).scenes) >= count
    except EmojiModelError:
        return False


def _save_array(path: Path, pictures: npt.NDArray[np.uint8]) -> None:
    """Save an array under exactly this name; given a path, `np.save` would append ".npy"."""
    with path.open("wb") as file:
        np.save(file, pictures)


def _invalid(folder: Path, reason: str) -> CheckpointError:
    """Return the error for an invalid training set."""
    return CheckpointError(f"{folder}: {reason}; remove the training set and run {COMMAND} again")
