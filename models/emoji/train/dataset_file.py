"""The training set on disk: composed once, of one world, and refused where it is another's or does not fit."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.sprite_files import FOLDER, pinned
from models.emoji.train.checkpoint import replace_file
from models.emoji.train.data import PictureSet, compose_set
from models.emoji.world import Scene, World, shipped_world

TRAINING_SEED = 0
INDEX, CAPTIONS, PICTURES = "scenes.json", "captions.json", "pictures.npy"
COMMAND = "`python -m models.emoji.train data`"


def write_dataset(folder: Path, count: int, processes: int) -> None:
    """The training set in `folder`; one of this world that is there and long enough is kept.

    Raises:
        CheckpointError: it cannot be written; a set that was there is kept.
        OSError: the folder cannot be made.
        SpriteError: a sprite is missing or altered.
    """
    world = shipped_world()
    if _holds(folder, count, world):
        return
    folder.mkdir(parents=True, exist_ok=True)  # a wrong place is told before the minutes of composing
    made = compose_set(TRAINING_SEED, count, processes)
    captions = json.dumps(made.captions).encode()
    index = dataset_index(world, captions, [scene.attributes for scene in made.scenes])
    replace_file(folder / PICTURES, lambda half: _save_array(half, made.pictures))
    replace_file(folder / CAPTIONS, lambda half: half.write_bytes(captions))
    replace_file(folder / INDEX, lambda half: half.write_text(json.dumps(index)))  # last: the set is whole


def read_dataset(folder: Path, world: World) -> PictureSet:
    """The training set of a folder, checked again for what is held out.

    Its captions and scenes are those that were composed; its pictures are only known to be as many.

    Raises:
        CheckpointError: there is no set in the folder, or it is broken, of another world, or altered.
        LeakError: a scene holds something held out.
    """
    if not (folder / INDEX).exists():
        raise CheckpointError(f"there is no training set in {folder}: run {COMMAND} first")
    try:
        index = json.loads((folder / INDEX).read_text())
        pictures = np.lib.format.open_memmap(folder / PICTURES, mode="r")
        captions = (folder / CAPTIONS).read_bytes()
    except (OSError, ValueError, EOFError) as broken:
        raise _refused(folder, f"is broken ({broken})") from broken
    if not isinstance(index, dict) or index.keys() != {"world", "digest", "scenes"}:
        raise _refused(folder, "does not say of which world it is (another version composed it)")
    if index["world"] != world_digest(world):
        raise _refused(folder, "is of another world")
    if index != dataset_index(world, captions, index["scenes"]):
        raise _refused(
            folder, f"has other captions or scenes than it was composed with ({CAPTIONS}, {INDEX})"
        )
    scenes = [
        Scene(thing, tint, pattern, ground, (colour, form))
        for thing, tint, pattern, ground, colour, form in index["scenes"]
    ]
    expected = (len(scenes), PICTURE_PX, PICTURE_PX, 3)
    if pictures.shape != expected or pictures.dtype != np.uint8:
        raise _refused(folder, f"has pictures {list(pictures.shape)}, expected {list(expected)} of bytes")
    for scene in scenes:
        world.held_out.check(scene)
    return PictureSet(pictures, json.loads(captions), scenes)


def dataset_index(world: World, captions: bytes, scenes: list[Any]) -> dict[str, Any]:
    """The index of a set: its world, its scenes, and one digest of captions and scenes."""
    digest = sha256(captions + json.dumps(scenes).encode()).hexdigest()
    return {"world": world_digest(world), "digest": digest, "scenes": scenes}


def world_digest(world: World) -> str:
    """Return the SHA-256 of the world's lists and of the sprites' hashes.

    The keys below are part of the stored format, not the names of Python fields: renaming a field must not
    invalidate stored training sets. A change of the composing code does not change the digest.
    """
    lists = {
        "sprites": world.sprites,
        "tints": world.tints,
        "plain_grounds": world.plain_grounds,
        "patterns": world.patterns,
        "scenes": world.scenes,
        "colour_looks": world.colour_looks,
        "form_looks": world.form_looks,
        "individuals": world.individuals,
        "named_styles": world.named_styles,
        "held_out": {
            "subjects": world.held_out.subjects,
            "shapes": world.held_out.shapes,
            "styles": world.held_out.styles,
        },
    }
    return sha256(json.dumps([lists, pinned(FOLDER)]).encode()).hexdigest()


def _holds(folder: Path, count: int, world: World) -> bool:
    """Whether there is a whole set of this world with so many pictures."""
    try:
        return len(read_dataset(folder, world).scenes) >= count
    except EmojiModelError:
        return False


def _save_array(path: Path, pictures: npt.NDArray[np.uint8]) -> None:
    """An array under just this name, to which `np.save` of a path would add its own ending."""
    with path.open("wb") as file:
        np.save(file, pictures)


def _refused(folder: Path, why: str) -> CheckpointError:
    """The refusal of a set that cannot be trained on."""
    return CheckpointError(f"the training set in {folder} {why}: remove it and run {COMMAND} again")
