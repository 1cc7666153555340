"""The training set on disk: whole, of this world, or refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.emoji.errors import CheckpointError, LeakError
from models.emoji.train.data import StyledChoice, read_set, write_set
from models.emoji.world import Scene, shipped_world


@pytest.fixture
def edited(tmp_path: Path, training_set: Path) -> Callable[[str, Callable[[Any], Any]], Path]:
    """A copy of the training set of which one JSON file is changed."""

    def edit(name: str, change: Callable[[Any], Any]) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(training_set, folder)
        rows = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(rows)))
        return folder

    return edit


def test_a_held_out_scene_in_the_set_is_refused(edited: Callable[[str, Callable[[Any], Any]], Path]) -> None:
    """A training set that holds a held-out shape stops the training before its first step."""
    folder = edited("scenes.json", lambda rows: [["koala", "", "", "on red", ["", ""]], *rows[1:]])
    with pytest.raises(LeakError, match="'koala' is held out"):
        read_set(folder, shipped_world())


def test_an_unknown_word_in_the_set_is_named(edited: Callable[[str, Callable[[Any], Any]], Path]) -> None:
    """Captions of another world are refused with their first unknown word."""
    folder = edited("captions.json", lambda texts: ["a photo of a yeti on red", *texts[1:]])
    with pytest.raises(CheckpointError, match="names the unknown 'yeti': remove it and run"):
        read_set(folder, shipped_world())


def test_a_set_that_lacks_captions_or_was_cut_is_refused(
    edited: Callable[[str, Callable[[Any], Any]], Path],
) -> None:
    """A set with fewer captions than scenes, and one whose pictures were cut short, are named as broken."""
    folder = edited("captions.json", lambda texts: texts[1:])
    with pytest.raises(CheckpointError, match="lacks pictures or captions"):
        read_set(folder, shipped_world())
    (folder / "pictures.npy").write_bytes((folder / "pictures.npy").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="is broken"):
        read_set(folder, shipped_world())


def test_a_broken_set_is_composed_again(edited: Callable[[str, Callable[[Any], Any]], Path]) -> None:
    """`train data` takes a list of scenes that was cut for no set at all, and composes one."""
    folder = edited("scenes.json", lambda rows: rows)
    (folder / "scenes.json").write_text((folder / "scenes.json").read_text()[:100])
    write_set(folder, 10, processes=1)
    assert len(read_set(folder, shipped_world()).captions) == 10


def test_a_set_without_any_style_is_refused() -> None:
    """A set too small to hold a style says what to compose."""
    with pytest.raises(CheckpointError, match=r"none of the 3 pictures .* has a style.*data\.pictures"):
        StyledChoice([Scene("cat", "", "", "on blue")] * 3, 0.4)
