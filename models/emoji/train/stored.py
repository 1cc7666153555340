"""The training set on disk: composed once, of one world, and refused where it is another's or was altered."""

import dataclasses
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.emoji.compose import PICTURE_PX
from models.emoji.errors import CheckpointError
from models.emoji.sprite_files import FOLDER, pinned
from models.emoji.train.checkpoint import replace_file
from models.emoji.train.data import PictureSet, compose_set
from models.emoji.world import Scene, World, shipped_world

TRAINING_SEED = 0
INDEX, CAPTIONS, PICTURES = "scenes.json", "captions.json", "pictures.npy"
COMMAND = "`python -m models.emoji.train data`"


def write_set(folder: Path, count: int, processes: int) -> None:
    """The training set in `folder`; one of this world that is there and long enough is kept.

    Raises:
        CheckpointError: it cannot be written.
        SpriteError: a sprite is missing or altered.
    """
    world = shipped_world()
    if _holds(folder, count, world):
        return
    folder.mkdir(parents=True, exist_ok=True)  # a wrong place is told before the minutes of composing
    made = compose_set(TRAINING_SEED, count, processes)
    captions = json.dumps(made.captions).encode()
    index = {
        "world": world_digest(world),
        "captions": sha256(captions).hexdigest(),
        "scenes": [scene.attributes for scene in made.scenes],
    }
    (folder / INDEX).unlink(missing_ok=True)
    replace_file(folder / PICTURES, lambda half: _save_array(half, made.pictures))
    replace_file(folder / CAPTIONS, lambda half: half.write_bytes(captions))
    replace_file(folder / INDEX, lambda half: half.write_text(json.dumps(index)))  # last: the set is whole


def read_set(folder: Path, world: World) -> PictureSet:
    """The training set of a folder, checked again for what is held out.

    Raises:
        CheckpointError: there is no set in the folder, or it is broken, of another world, or altered.
        LeakError: a scene holds something held out.
    """
    try:
        index = _index(folder)
        scenes = [
            Scene(thing, tint, pattern, ground, (colour, form))
            for thing, tint, pattern, ground, colour, form in index["scenes"]
        ]
        pictures = np.load(folder / PICTURES, mmap_mode="r")
        text = (folder / CAPTIONS).read_bytes()
        of_world, digest = index["world"], index["captions"]
    except (OSError, ValueError, TypeError, KeyError) as broken:
        raise _refused(folder, f"is broken ({broken})") from broken
    if of_world != world_digest(world):
        raise _refused(folder, "is of another world")
    if sha256(text).hexdigest() != digest:
        raise _refused(folder, f"has other captions than it was composed with ({CAPTIONS})")
    expected = (len(scenes), PICTURE_PX, PICTURE_PX, 3)
    if pictures.shape != expected:
        raise _refused(folder, f"has pictures {list(pictures.shape)}, expected {list(expected)}")
    for scene in scenes:
        world.held_out.check(scene)
    return PictureSet(pictures, json.loads(text), scenes)


def world_digest(world: World) -> str:
    """The SHA-256 of all that a composed picture hangs on: the lists, and the sprites' own hashes."""
    lists = json.dumps([dataclasses.asdict(world), pinned(FOLDER)])
    return sha256(lists.encode()).hexdigest()


def _index(folder: Path) -> Any:
    """What was written last: the set's world, the digest of its captions, and its scenes."""
    path = folder / INDEX
    if not path.exists():
        raise CheckpointError(f"there is no training set in {folder}: run {COMMAND} first")
    return json.loads(path.read_text())


def _holds(folder: Path, count: int, world: World) -> bool:
    """Whether there is a set of this world with so many pictures."""
    try:
        found = _index(folder)
        return bool(found["world"] == world_digest(world) and len(found["scenes"]) >= count)
    except (CheckpointError, OSError, ValueError, TypeError, KeyError):
        return False


def _save_array(path: Path, pictures: npt.NDArray[np.uint8]) -> None:
    """An array under just this name, to which `np.save` of a path would add its own ending."""
    with path.open("wb") as file:
        np.save(file, pictures)


def _refused(folder: Path, why: str) -> CheckpointError:
    """The refusal of a set that cannot be trained on."""
    return CheckpointError(f"the training set in {folder} {why}: remove it and run {COMMAND} again")
