"""The export: atomic writes, and compatibility of weights, world and settings."""

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
from models.emoji.export import collect_parts, write_folder
from models.emoji.settings import read_settings
from models.emoji.train.__main__ import main as train
from models.emoji.train.checkpoint import read_checkpoint
from models.emoji.train.networks import SHIPPED
from models.emoji.world import World, shipped_world
from tests.unit.models.emoji.conftest import TINY, new_work

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, training_set: Path) -> Path:
    """Return a work folder with a short training of every part; its settings file is in the parent folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(TINY)
    work = new_work(folder / "work", training_set)
    for part in ("diffusion", "autoencoder", "clip"):
        train(
            [
                part,
                "--work",
                str(work),
                "--settings",
                str(folder / "tiny.toml"),
                "--from-scratch",
                "--pictures",
                "8",
            ]
        )
    return work


@pytest.fixture
def work(tmp_path: Path, trained: Path) -> Path:
    """Return a copy of the trained work folder."""
    return Path(shutil.copytree(trained, tmp_path / "work", symlinks=True))


@pytest.fixture
def settings_file(trained: Path) -> Path:
    """Return the settings file of the training."""
    return trained.parent / "tiny.toml"


@pytest.fixture
def shipped_copy(tmp_path: Path) -> Path:
    """Return a copy of the shipped model folder."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refusal(work: Path, out: Path, settings_file: Path) -> str:
    """Run the command and return its one-line error message."""
    with pytest.raises(SystemExit) as ended:
        export.main(["--work", str(work), "--out", str(out), "--settings", str(settings_file)])
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def with_a_new_word(world: World) -> World:
    """Return the world with another named instance."""
    return dataclasses.replace(world, named_instances=world.named_instances | {"zuzu": ("cat", "red", "")})


def test_the_averaged_weights_are_exported(
    work: Path, settings_file: Path, shipped_copy: Path, tmp_path: Path
) -> None:
    """The command writes the moving average in half precision as a folder that diffusers loads."""
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


def test_a_new_folder_gets_untrained_parts_from_the_start_folder(
    work: Path, settings_file: Path, tmp_path: Path
) -> None:
    """A new output folder becomes a complete model, and the shipped folder is unchanged."""
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
    """With a checkpoint of the CLIP pair only, every file of the other parts keeps its bytes."""
    for part in ("diffusion", "autoencoder"):
        (work / f"{part}.pt").unlink()
    export.main(["--work", str(work), "--out", str(shipped_copy), "--settings", str(settings_file)])
    before, after = contents(SHIPPED), contents(shipped_copy)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"scorer/config.json", "scorer/model.safetensors"}


def test_an_export_without_checkpoints_is_refused(
    tmp_path: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """The message names the work folder, and the model folder is unchanged."""
    before = contents(shipped_copy)
    assert "no checkpoint found" in refusal(tmp_path / "none", shipped_copy, settings_file)
    assert contents(shipped_copy) == before


def test_a_truncated_checkpoint_leaves_the_folder_alone(
    work: Path, settings_file: Path, shipped_copy: Path
) -> None:
    """The message for a truncated checkpoint has its path, and the model folder is unchanged."""
    path, before = work / "clip.pt", contents(shipped_copy)
    path.write_bytes(path.read_bytes()[:-2000])
    assert f"{path}: cannot read the checkpoint (truncated?)" in refusal(work, shipped_copy, settings_file)
    assert contents(shipped_copy) == before


def test_settings_of_another_training_are_refused(work: Path, shipped_copy: Path, tmp_path: Path) -> None:
    """The message has the first setting that differs and both values."""
    shipped = tmp_path / "settings.toml"
    shipped.write_text(export.SETTINGS_FILE.read_text())
    message = refusal(work, shipped_copy, shipped)
    assert "diffusion.channels: got [64, 128]; expected [32, 32]" in message


def test_an_added_word_is_refused(work: Path, settings_file: Path, shipped_copy: Path) -> None:
    """A world with a new word matches neither the checkpoints nor the model folder."""
    world, settings = with_a_new_word(shipped_world()), read_settings(settings_file)
    with pytest.raises(CheckpointError, match=r"diffusion\.pt: .*other words \(the word 'zuzu' was added\)"):
        collect_parts(work, shipped_copy, settings, world)
    (work / "diffusion.pt").unlink()
    (work / "clip.pt").unlink()
    with pytest.raises(CheckpointError, match=r"model: .*other words \(the word 'zuzu' was added\)"):
        collect_parts(work, shipped_copy, settings, world)


def test_a_removed_word_is_refused(work: Path, settings_file: Path, shipped_copy: Path) -> None:
    """A world without one of the trained words does not match the checkpoint."""
    world, settings = shipped_world(), read_settings(settings_file)
    fewer = dict(world.named_instances)
    del fewer["bamu"]
    world = dataclasses.replace(world, named_instances=fewer)
    with pytest.raises(
        CheckpointError, match=r"diffusion\.pt: .*other words \(the word 'bamu' was removed\)"
    ):
        collect_parts(work, shipped_copy, settings, world)


def test_parts_on_other_components_are_not_mixed(work: Path, settings_file: Path, shipped_copy: Path) -> None:
    """A decoder trained on fitted components is not combined with the U-Net of the model folder."""
    (work / "components.safetensors").unlink(missing_ok=True)
    (work / "autoencoder.pt").unlink()
    (work / "diffusion.pt").unlink()
    arguments = ["--work", str(work), "--settings", str(settings_file)]
    train(["components", *arguments])
    train(["autoencoder", *arguments, "--from-scratch", "--pictures", "8"])
    assert "trained on other principal components" in refusal(work, shipped_copy, settings_file)


class Failing(torch.nn.Module):
    """A network whose weights cannot be written."""

    def save_pretrained(self, folder: Path) -> None:
        """Write part of a file, then fail."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{")
        raise OSError("No space left on device")


def test_a_failed_write_keeps_the_old_folder(
    work: Path, settings_file: Path, shipped_copy: Path, tmp_path: Path
) -> None:
    """If the last part cannot be written, every file is unchanged and no temporary folder remains."""
    before = contents(shipped_copy)
    parts = collect_parts(work, shipped_copy, read_settings(settings_file), shipped_world())
    with pytest.raises(EmojiModelError, match=r"model: cannot write: No space left"):
        write_folder(parts | {"scorer": Failing()}, shipped_copy, shipped_world())
    assert contents(shipped_copy) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "work"]


def test_a_folder_with_other_files_is_never_replaced(work: Path, settings_file: Path, tmp_path: Path) -> None:
    """The message names a file that is not part of a model, and the file is kept."""
    out = tmp_path / "home"
    out.mkdir()
    (out / "letters.txt").write_text("dear")
    message = refusal(work, out, settings_file)
    assert "holds 'letters.txt', which is not part of a model" in message
    assert (out / "letters.txt").read_text() == "dear"


def test_a_new_folder_is_complete(work: Path, settings_file: Path, tmp_path: Path) -> None:
    """With a checkpoint of every part, a new output folder has all files of a model."""
    out = tmp_path / "new" / "model"
    export.main(["--work", str(work), "--out", str(out), "--settings", str(settings_file)])
    assert json.loads((out / "model_index.json").read_text())["_class_name"] == "StableDiffusionPipeline"
    assert contents(out).keys() == contents(SHIPPED).keys()
