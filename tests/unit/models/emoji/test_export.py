"""The export: whole folders or none, and only of weights that fit the world and the settings."""

import dataclasses
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from models.emoji import export
from models.emoji.errors import CheckpointError, EmojiModelError
from models.emoji.export import collect, write_folder
from models.emoji.settings import read_settings
from models.emoji.train.__main__ import main as train
from models.emoji.train.checkpoint import read_checkpoint
from models.emoji.train.networks import SHIPPED
from models.emoji.world import World, shipped_world
from tests.unit.models.emoji.conftest import TINY, new_work


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, training_set: Path) -> Path:
    """A work folder in which every part of the model has seen a few pictures, with its settings beside."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(TINY)
    work = new_work(folder / "work", training_set)
    for part in ("diffusion", "autoencoder", "clip"):
        train(
            [part, "--work", str(work), "--settings", str(folder / "tiny.toml"), "--anew", "--pictures", "8"]
        )
    return work


@pytest.fixture
def work(tmp_path: Path, trained: Path) -> Path:
    """A copy of the trained work folder."""
    return Path(shutil.copytree(trained, tmp_path / "work", symlinks=True))


@pytest.fixture
def settings_file(trained: Path) -> Path:
    """The settings that it was trained with."""
    return trained.parent / "tiny.toml"


@pytest.fixture
def shipped_copy(tmp_path: Path) -> Path:
    """A copy of the shipped folder to export into."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by a hash of its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refusal(work: Path, out: Path, settings_file: Path) -> str:
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as ended:
        export.main(["--work", str(work), "--out", str(out), "--settings", str(settings_file)])
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def with_a_new_word(world: World) -> World:
    """The world with another invented word."""
    return dataclasses.replace(world, individuals=world.individuals | {"zuzu": ("cat", "red", "")})


def test_the_averaged_weights_are_exported_and_draw(
    work: Path, settings_file: Path, shipped_copy: Path, tmp_path: Path
) -> None:
    """The command writes the moving average in half precision as a folder that diffusers reads, and nothing else."""
    export.main(["--work", str(work), "--out", str(shipped_copy), "--settings", str(settings_file)])
    state = read_checkpoint(work / "diffusion.pt", "diffusion")
    assert state is not None
    written = load_file(shipped_copy / "unet" / "diffusion_pytorch_model.safetensors")
    for name, weight in written.items():
        assert torch.equal(weight, state["optimiser"]["average"][f"unet.{name}"].half()), name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = DiffusionPipeline.from_pretrained(shipped_copy, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a photo of a cat", num_inference_steps=1, output_type="pt").images.shape == (
        1,
        3,
        64,
        64,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "work"]


def test_a_new_place_gets_what_was_not_trained_from_the_start(
    work: Path, settings_file: Path, tmp_path: Path
) -> None:
    """A folder that is not there yet becomes a whole model; the shipped one is as it was."""
    for part in ("diffusion", "autoencoder"):
        (work / f"{part}.pt").unlink()
    before, new = contents(SHIPPED), tmp_path / "new"
    export.main(["--work", str(work), "--out", str(new), "--settings", str(settings_file)])
    after = contents(new)
    assert set(after) == set(before)
    assert (
        after["unet/diffusion_pytorch_model.safetensors"]
        == before["unet/diffusion_pytorch_model.safetensors"]
    )
    assert after["scorer/model.safetensors"] != before["scorer/model.safetensors"]
    assert contents(SHIPPED) == before


def test_a_part_without_a_checkpoint_keeps_its_files(
    work: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """With a checkpoint of the scoring pair alone, every file of the other parts keeps its bytes."""
    for part in ("diffusion", "autoencoder"):
        (work / f"{part}.pt").unlink()
    export.main(["--work", str(work), "--out", str(shipped_copy), "--settings", str(settings_file)])
    before, after = contents(SHIPPED), contents(shipped_copy)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"scorer/config.json", "scorer/model.safetensors"}


def test_without_any_checkpoint_there_is_nothing_to_export(
    tmp_path: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """A work folder that is not there is named, and the model folder stays."""
    before = contents(shipped_copy)
    assert "no checkpoint found" in refusal(tmp_path / "none", shipped_copy, settings_file)
    assert contents(shipped_copy) == before


def test_a_truncated_checkpoint_leaves_the_folder_alone(
    work: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """A checkpoint that was cut short gives one line with its path; no file of the model folder changes."""
    path, before = work / "clip.pt", contents(shipped_copy)
    path.write_bytes(path.read_bytes()[:-2000])
    assert f"{path} cannot be read (truncated?)" in refusal(work, shipped_copy, settings_file)
    assert contents(shipped_copy) == before


def test_other_settings_than_the_trainings_are_refused(
    work: Path, shipped_copy: Path, tmp_path: Path
) -> None:
    """The shipped settings do not describe narrow checkpoints: one line says which setting differs."""
    shipped = tmp_path / "settings.toml"
    shipped.write_text(export.FILE.read_text())
    message = refusal(work, shipped_copy, shipped)
    assert "diffusion.channels is [64, 128] in the settings, but" in message


def test_a_word_that_no_training_has_seen_is_refused(
    work: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """A world with a new word fits neither the checkpoints nor the model folder: both are named with the word."""
    world, settings = with_a_new_word(shipped_world()), read_settings(settings_file)
    with pytest.raises(CheckpointError, match=r"new word 'zuzu', which .*diffusion\.pt was not trained with"):
        collect(work, shipped_copy, settings, world)
    (work / "diffusion.pt").unlink()
    (work / "clip.pt").unlink()
    with pytest.raises(CheckpointError, match=r"new word 'zuzu', which .*model was not trained with"):
        collect(work, shipped_copy, settings, world)


def test_a_word_that_is_gone_is_refused(work: Path, settings_file: Path, shipped_copy: Path) -> None:
    """A world that lacks a word has other rows: the word is named where the checkpoint knows it."""
    world, settings = shipped_world(), read_settings(settings_file)
    fewer = dict(world.individuals)
    del fewer["bamu"]
    world = dataclasses.replace(world, individuals=fewer)
    with pytest.raises(CheckpointError, match=r"lacks a word 'bamu' that .*diffusion\.pt was trained with"):
        collect(work, shipped_copy, settings, world)


def test_parts_on_other_components_are_not_mixed(work: Path, settings_file: Path, shipped_copy: Path) -> None:
    """A decoder trained on fitted components and a U-Net of the model folder do not make one model."""
    (work / "components.safetensors").unlink(missing_ok=True)
    (work / "autoencoder.pt").unlink()
    (work / "diffusion.pt").unlink()
    arguments = ["--work", str(work), "--settings", str(settings_file)]
    train(["components", *arguments])
    train(["autoencoder", *arguments, "--anew", "--pictures", "8"])
    assert "was trained on other principal components" in refusal(work, shipped_copy, settings_file)


class Failing(torch.nn.Module):
    """A part whose weights the disk refuses half way."""

    def save_pretrained(self, folder: Path) -> None:
        """Write a little, then fail."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{")
        raise OSError("No space left on device")


def test_a_write_that_fails_leaves_the_old_folder_and_no_other(
    work: Path, settings_file: Path, shipped_copy: Path, tmp_path: Path
) -> None:
    """When the last part cannot be written, every file is as before and nothing lies beside the folder."""
    before = contents(shipped_copy)
    parts = collect(work, shipped_copy, read_settings(settings_file), shipped_world())
    with pytest.raises(EmojiModelError, match=r"model: cannot write: No space left"):
        write_folder(parts | {"scorer": Failing()}, shipped_copy, shipped_world())
    assert contents(shipped_copy) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "work"]


def test_a_folder_of_something_else_is_never_replaced(
    work: Path, settings_file: Path, tmp_path: Path
) -> None:
    """--out with files that are no part of a model is refused with one of them, and they stay."""
    out = tmp_path / "home"
    out.mkdir()
    (out / "letters.txt").write_text("dear")
    message = refusal(work, out, settings_file)
    assert "holds 'letters.txt', which is not part of a model" in message
    assert (out / "letters.txt").read_text() == "dear"


def test_a_new_folder_is_made_whole(work: Path, settings_file: Path, tmp_path: Path) -> None:
    """With a checkpoint of every part no model folder is needed beforehand."""
    out = tmp_path / "new" / "model"
    export.main(["--work", str(work), "--out", str(out), "--settings", str(settings_file)])
    assert json.loads((out / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    assert contents(out).keys() == contents(SHIPPED).keys()
