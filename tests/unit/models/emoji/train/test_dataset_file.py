"""The training set on disk: validation of altered, truncated and outdated files."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.emoji.errors import CheckpointError, LeakError
from models.emoji.train.dataset_file import dataset_index, read_dataset, world_digest, write_dataset
from models.emoji.world import shipped_world
from tests.unit.models.emoji.conftest import PICTURES

SHIPPED_WORLD_DIGEST = "0c80ff62310372f0e46d5d0e6f72a0730708e351d7685e3cec36b7d61698855c"

Edit = Callable[[str, Callable[[Any], Any]], Path]


@pytest.fixture
def edited(tmp_path: Path, training_set: Path) -> Edit:
    """Return a function that copies the training set and changes one JSON file."""

    def edit(name: str, change: Callable[[Any], Any]) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(training_set, folder)
        rows = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(rows)))
        return folder

    return edit


def test_a_held_out_scene_in_the_set_is_refused(edited: Edit) -> None:
    """A training set with a held-out shape raises an error when it is read."""
    held_out, world = ["koala", "", "", "on red", "", ""], shipped_world()
    folder = edited("scenes.json", lambda index: index)
    captions = (folder / "captions.json").read_bytes()
    scenes = json.loads((folder / "scenes.json").read_text())["scenes"]
    (folder / "scenes.json").write_text(json.dumps(dataset_index(world, captions, [held_out, *scenes[1:]])))
    with pytest.raises(LeakError, match="the shape 'koala' is held out"):
        read_dataset(folder, world)


def test_altered_scenes_are_refused(edited: Edit) -> None:
    """Reordered scenes do not match the digest."""
    folder = edited("scenes.json", lambda index: {**index, "scenes": index["scenes"][::-1]})
    with pytest.raises(CheckpointError, match=r"captions\.json or scenes\.json was altered"):
        read_dataset(folder, shipped_world())


def test_altered_captions_are_refused(edited: Edit) -> None:
    """A caption that was changed to name a held-out object does not match the digest."""
    folder = edited("captions.json", lambda texts: ["a photo of a koala on red", *texts[1:]])
    with pytest.raises(CheckpointError, match=r"was altered; remove the training set and run"):
        read_dataset(folder, shipped_world())


def test_a_set_of_another_world_is_refused_and_composed_again(edited: Edit) -> None:
    """A different RGB value or a different named instance makes another world, even with the same words."""
    world, folder = shipped_world(), edited("scenes.json", lambda index: index)
    word, _ = next(iter(world.named_instances.items()))
    others = (
        replace(world, colors=world.colors | {"red": (1, 2, 3)}),
        replace(world, named_instances=world.named_instances | {word: ("cat", "", "")}),
    )
    for other in others:
        with pytest.raises(CheckpointError, match="composed for another world; remove the training set"):
            read_dataset(folder, other)
    (folder / "scenes.json").write_text(json.dumps({"world": "another", "captions": "", "scenes": []}))
    write_dataset(folder, 10, processes=1)
    assert len(read_dataset(folder, world).captions) == 10


def test_the_digest_of_the_shipped_world_is_stable() -> None:
    """Renaming fields or moving code does not invalidate stored training sets."""
    assert world_digest(shipped_world()) == SHIPPED_WORLD_DIGEST


def test_damaged_pictures_are_refused(edited: Edit, training_set: Path) -> None:
    """Pictures of another number, size or type, a truncated file and an empty file are refused."""
    folder = edited("scenes.json", lambda index: index)
    path, pictures = folder / "pictures.npy", np.load(training_set / "pictures.npy")
    for wrong in (pictures[1:], pictures[:, ::2, ::2], pictures.astype(np.float32)):
        np.save(path, wrong)
        expected = rf"got \w+ {re.escape(str(list(wrong.shape)))}; expected uint8 \[{PICTURES}, 64, 64, 3\]"
        with pytest.raises(CheckpointError, match=expected):
            read_dataset(folder, shipped_world())
    for short in (path.read_bytes()[:5000], b""):
        path.write_bytes(short)
        with pytest.raises(CheckpointError, match="data: cannot read"):
            read_dataset(folder, shipped_world())


def test_a_set_of_an_earlier_version_is_refused(edited: Edit) -> None:
    """An index that is a plain list of scenes comes from an earlier version."""
    folder = edited("scenes.json", lambda index: index["scenes"])
    with pytest.raises(CheckpointError, match=r"composed by another version\); remove the training set"):
        read_dataset(folder, shipped_world())


def test_a_broken_set_is_composed_again(edited: Edit) -> None:
    """`train data` composes a new set if the index is truncated."""
    folder = edited("scenes.json", lambda index: index)
    (folder / "scenes.json").write_text((folder / "scenes.json").read_text()[:100])
    write_dataset(folder, 10, processes=1)
    assert len(read_dataset(folder, shipped_world()).captions) == 10


def test_a_complete_set_is_kept(edited: Edit) -> None:
    """`train data` composes nothing if a valid set has enough pictures."""
    folder = edited("scenes.json", lambda index: index)
    before = (folder / "pictures.npy").stat().st_mtime_ns
    write_dataset(folder, 10, processes=1)
    assert (folder / "pictures.npy").stat().st_mtime_ns == before


def test_a_missing_set_is_refused_with_a_command(tmp_path: Path) -> None:
    """The message for a missing set has the command that composes it."""
    with pytest.raises(CheckpointError, match="train data"):
        read_dataset(tmp_path, shipped_world())
