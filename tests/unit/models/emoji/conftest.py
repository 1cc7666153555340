"""Fixtures for trainings of narrow networks that take seconds: settings, training set and work folder."""

from pathlib import Path

import pytest

from models.emoji.train.__main__ import main as train
from models.emoji.train.dataset_file import write_dataset

PICTURES = 120

TINY = """
[data]
pictures = 120
processes = 1

[components]
pictures = 100

[diffusion]
channels = [32, 32]
layers_per_block = 1
text_width = 48
text_layers = 1
batch = 4
rate = 2.0e-3
average = 0.9
warmup_steps = 2
caption_dropout = 0.1
styled_share = 0.4
logit_normal_share = 0.65
pictures = 40
decay = 20
samples_every = 16

[autoencoder]
channels = [12, 16, 32, 64]
layers_per_block = 1
norm_groups = 4
styled_share = 0.4
guessed_share = 0.5
batch = 4
rate = 3.0e-3
average = 0.9
warmup_steps = 2
pictures = 16
decay = 8
samples_every = 16

[clip]
width = 48
projection = 16
vision_layers = 1
text_layers = 1
patch_px = 16
batch = 8
rate = 2.0e-3
average = 0.9
warmup_steps = 2
pictures = 16
decay = 8
samples_every = 16

[judge]
composed = 40
channels = [8, 8, 8, 8]
batch = 8
rate = 2.0e-3
average = 0.9
warmup_steps = 2
pictures = 16
decay = 8
samples_every = 16
"""


@pytest.fixture
def tiny_settings(tmp_path: Path) -> Path:
    """Return a settings file of narrow networks."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small training set on disk, shared by all tests and read-only."""
    folder = tmp_path_factory.mktemp("set") / "data"
    write_dataset(folder, PICTURES, processes=1)
    return folder


@pytest.fixture
def work(tmp_path: Path, training_set: Path) -> Path:
    """Return a work folder without checkpoints."""
    return new_work(tmp_path / "work", training_set)


def new_work(folder: Path, training_set: Path) -> Path:
    """Create a work folder that links to the training set."""
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(training_set)
    return folder


def training_error(*arguments: str | Path) -> str:
    """Run the training command and return its one-line error message."""
    with pytest.raises(SystemExit) as ended:
        train([str(one) for one in arguments])
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def run_training(part: str, work: Path, settings: Path, *more: str) -> None:
    """Run the training command in this process."""
    train([part, "--work", str(work), "--settings", str(settings), *more])
