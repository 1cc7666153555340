"""The training set on disk: whole, of this world, or refused in one line."""

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
    """A copy of the training set of which one JSON file is changed."""

    def edit(name: str, change: Callable[[Any], Any]) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(training_set, folder)
        rows = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(rows)))
        return folder

    return edit


def test_a_held_out_scene_in_the_set_is_refused(edited: Edit) -> None:
    """A training set that was composed with a held-out shape stops the training before its first step."""
    held_out, world = ["koala", "", "", "on red", "", ""], shipped_world()
    folder = edited("scenes.json", lambda index: index)
    captions = (folder / "captions.json").read_bytes()
    scenes = json.loads((folder / "scenes.json").read_text())["scenes"]
    (folder / "scenes.json").write_text(json.dumps(dataset_index(world, captions, [held_out, *scenes[1:]])))
    with pytest.raises(LeakError, match="'koala' is held out"):
        read_dataset(folder, world)


def test_scenes_that_were_altered_are_refused(edited: Edit) -> None:
    """Scenes in another order than their pictures."""
    folder = edited("scenes.json", lambda index: {**index, "scenes": index["scenes"][::-1]})
    with pytest.raises(CheckpointError, match="has other captions or scenes"):
        read_dataset(folder, shipped_world())


def test_captions_that_were_altered_are_refused(edited: Edit) -> None:
    """A held-out thing cannot come in by a caption: the set has those that it was composed with, or none."""
    folder = edited("captions.json", lambda texts: ["a photo of a koala on red", *texts[1:]])
    with pytest.raises(CheckpointError, match=r"has other captions or scenes .*: remove it and run"):
        read_dataset(folder, shipped_world())


def test_a_set_of_another_world_is_refused_and_composed_again(edited: Edit) -> None:
    """The same words with another red, or another look of an individual, are another world."""
    world, folder = shipped_world(), edited("scenes.json", lambda index: index)
    word, _ = next(iter(world.individuals.items()))
    others = (
        replace(world, tints=world.tints | {"red": (1, 2, 3)}),
        replace(world, individuals=world.individuals | {word: ("cat", "", "")}),
    )
    for other in others:
        with pytest.raises(CheckpointError, match="is of another world: remove it and run"):
            read_dataset(folder, other)
    (folder / "scenes.json").write_text(json.dumps({"world": "another", "captions": "", "scenes": []}))
    write_dataset(folder, 10, processes=1)
    assert len(read_dataset(folder, world).captions) == 10


def test_the_digest_of_the_shipped_world_is_stable() -> None:
    """Renaming fields or moving code does not invalidate stored training sets."""
    assert world_digest(shipped_world()) == SHIPPED_WORLD_DIGEST


def test_a_set_that_was_cut_is_refused(edited: Edit, training_set: Path) -> None:
    """Pictures of another number or kind, a file that was cut short, and an empty one are named."""
    folder = edited("scenes.json", lambda index: index)
    path, pictures = folder / "pictures.npy", np.load(training_set / "pictures.npy")
    for wrong in (pictures[1:], pictures[:, ::2, ::2], pictures.astype(np.float32)):
        np.save(path, wrong)
        expected = (
            rf"has pictures {re.escape(str(list(wrong.shape)))}, expected \[{PICTURES}, 64, 64, 3\] of bytes"
        )
        with pytest.raises(CheckpointError, match=expected):
            read_dataset(folder, shipped_world())
    for short in (path.read_bytes()[:5000], b""):
        path.write_bytes(short)
        with pytest.raises(CheckpointError, match="is broken"):
            read_dataset(folder, shipped_world())


def test_a_set_of_an_earlier_version_says_so(edited: Edit) -> None:
    """It was a list of scenes alone."""
    folder = edited("scenes.json", lambda index: index["scenes"])
    with pytest.raises(CheckpointError, match=r"another version composed it\): remove it and run"):
        read_dataset(folder, shipped_world())


def test_a_broken_set_is_composed_again(edited: Edit) -> None:
    """`train data` takes an index that was cut for no set at all, and composes one."""
    folder = edited("scenes.json", lambda index: index)
    (folder / "scenes.json").write_text((folder / "scenes.json").read_text()[:100])
    write_dataset(folder, 10, processes=1)
    assert len(read_dataset(folder, shipped_world()).captions) == 10


def test_a_set_that_is_whole_is_kept(edited: Edit) -> None:
    """`train data` composes nothing where a set of this world is long enough."""
    folder = edited("scenes.json", lambda index: index)
    before = (folder / "pictures.npy").stat().st_mtime_ns
    write_dataset(folder, 10, processes=1)
    assert (folder / "pictures.npy").stat().st_mtime_ns == before


def test_a_missing_training_set_says_how_to_make_it(tmp_path: Path) -> None:
    """Training without data names the command that composes it."""
    with pytest.raises(CheckpointError, match="train data"):
        read_dataset(tmp_path, shipped_world())
