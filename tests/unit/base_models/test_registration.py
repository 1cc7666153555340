"""Adding base models to a catalog, replacing and removing them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tooling.registration import add, minimal, refusal
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.catalog_file import write_entry
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.registration import remove_model
from zoodip_core.diffusion.weight_checks import check_all_weights, check_weights
from zoodip_core.errors import InvalidModelError, StorageError, UnknownBaseModelError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a b", {}, "name: got 'a b'; expected 1 to 63 letters"),
        ("", {}, "name: got ''"),
        ("../x", {}, r"name: got '../x'"),
        ("-x", {}, "name: got '-x'"),
        ("emoji", {"replace": True}, "name: got 'emoji', which is the embedded model"),
        ("x", {"revision": "main"}, "revision: got main with .*; expected this option with a hub id only"),
        ("x", {"variant": "fp16"}, "variant: got fp16 with"),
    ],
)
def test_names_and_options_are_checked(
    catalog: Path, source: Path, name: str, options: dict[str, object], message: str
) -> None:
    """A wrong name or an option of another kind of source is refused."""
    assert re.match(message, refusal(catalog, name, source / "model.safetensors", **options))


def test_options_of_a_checkpoint_are_refused_for_a_folder(catalog: Path, source: Path) -> None:
    """The scheduler of a folder says what the U-Net predicts."""
    message = refusal(catalog, "x", source / "parts", prediction_type="epsilon")
    assert message.startswith("prediction_type: got epsilon with")
    assert "checkpoint only" in message


def test_a_source_that_is_nothing(catalog: Path) -> None:
    """The message lists the three kinds of sources."""
    message = refusal(catalog, "x", "nowhere.safetensors")
    assert message == (
        "source: got 'nowhere.safetensors', which does not exist; expected a folder in diffusers' layout, "
        "a .safetensors checkpoint, or a hub id (owner/name)"
    )


@pytest.mark.slow
def test_a_pickle_is_refused_with_a_command_that_converts_it(
    catalog: Path, source: Path, tmp_path: Path
) -> None:
    """The command of the message runs as printed, and its result can be added."""
    tensors = load_file(source / "model.safetensors")
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "old model.ckpt")
    message = refusal(catalog, "old", tmp_path / "old model.ckpt")
    assert "a pickle, which can run code" in message
    command = shlex.split(message.partition("To convert it: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    add(catalog, "old", tmp_path / "old model.safetensors")
    assert Catalog.load(catalog).get("old").path is not None


@pytest.mark.slow
def test_a_catalog_keeps_comments_and_settings(catalog: Path, source: Path) -> None:
    """Adding, replacing and removing change one entry; comments and other fields stay."""
    catalog.write_text(
        f'# our models\n[[base_models]]\nname = "a"  # first\npath = "{source}/parts"\nsteps = 9\n'
    )
    add(catalog, "b", source / "parts", precision="nf4", default=True)
    add(catalog, "c", source / "model.safetensors", default=True)
    text = catalog.read_text()
    assert text.startswith("# our models\n")
    assert 'name = "a"  # first\n' in text
    loaded = Catalog.load(catalog)
    assert [entry.name for entry in loaded.entries] == ["emoji", "a", "b", "c"]
    assert (loaded.default.name, loaded.get("b").precision) == ("c", "nf4")
    assert "which" in refusal(catalog, "a", source / "model.safetensors")
    add(catalog, "a", source / "model.safetensors", replace=True)
    entry = Catalog.load(catalog).get("a")
    assert (entry.steps, entry.path) == (9, catalog.with_suffix(".d") / "a")
    remove_model(catalog, "b")
    assert [entry.name for entry in Catalog.load(catalog).entries] == ["emoji", "a", "c"]
    assert catalog.read_text().startswith("# our models\n")


def test_entries_are_separated_by_one_empty_line(tmp_path: Path) -> None:
    """A catalog that only `add` writes reads like one that a person wrote."""
    for name in ("a", "b", "c"):
        write_entry(tmp_path / "models.toml", {"name": name, "path": name})
    text = (tmp_path / "models.toml").read_text()
    assert text.split("\n\n") == [
        *(f'[[base_models]]\nname = "{name}"\npath = "{name}"' for name in ("a", "b")),
        '[[base_models]]\nname = "c"\npath = "c"\n',
    ]


@pytest.mark.slow
def test_removing_deletes_only_what_was_written(catalog: Path, source: Path) -> None:
    """Weights stay; the folder of configurations goes. An entry whose folder is gone can be removed."""
    add(catalog, "single", source / "model.safetensors")
    add(catalog, "parts", source / "parts")
    written = catalog.with_suffix(".d") / "single"
    assert remove_model(catalog, "single") == written
    assert not written.exists()
    assert remove_model(catalog, "parts") is None
    assert (source / "model.safetensors").is_file()
    assert (source / "parts" / "unet").is_dir()
    catalog.write_text('[[base_models]]\nname = "gone"\npath = "/nowhere"\n')
    remove_model(catalog, "gone")
    with pytest.raises(UnknownBaseModelError, match="name: got 'gone'; expected a name in"):
        remove_model(catalog, "gone")


def test_a_folder_in_the_way_is_kept(catalog: Path, source: Path) -> None:
    """A folder that was not written for this model is never overwritten."""
    other = catalog.with_suffix(".d") / "single"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    for replace in (False, True):
        assert "exists already" in refusal(catalog, "single", source / "model.safetensors", replace=replace)
    assert (other / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_paths_in_the_folder_of_the_catalog_are_relative(catalog: Path, source: Path, tmp_path: Path) -> None:
    """The folder of the catalog can be moved or mounted elsewhere with its models."""
    shutil.copy(source / "model.safetensors", catalog.parent)
    shutil.copytree(source / "parts", catalog.parent / "parts")
    add(catalog, "single", catalog.parent / "model.safetensors")
    add(catalog, "parts", catalog.parent / "parts")
    moved = catalog.parent.rename(tmp_path / "moved")
    loaded = Catalog.load(moved / "models.toml")
    for name in ("single", "parts"):
        path = loaded.get(name).path
        assert path is not None
        check_all_weights(path)


@pytest.mark.slow
def test_a_checkpoint_that_changed_or_moved_is_named(catalog: Path, source: Path) -> None:
    """The error names the checkpoint, not the map of its tensors only."""
    checkpoint = catalog.parent / "model.safetensors"
    shutil.copy(source / "model.safetensors", checkpoint)
    add(catalog, "single", checkpoint)
    folder = catalog.with_suffix(".d") / "single"
    save_file(minimal(), checkpoint)
    with pytest.raises(
        InvalidModelError, match=r"model\.safetensors lacks .*, which .*checkpoint\.json lists"
    ):
        check_weights(folder)
    checkpoint.unlink()
    with pytest.raises(InvalidModelError, match=r"model\.safetensors cannot be read .No such file"):
        fingerprint(folder)
    with pytest.raises(InvalidModelError, match=r"model\.safetensors cannot be read .No such file"):
        check_weights(folder)


@pytest.mark.slow
def test_replacing_a_checkpoint_by_a_folder_deletes_what_was_written(catalog: Path, source: Path) -> None:
    """No folder of configurations stays behind without an entry."""
    add(catalog, "x", source / "model.safetensors")
    add(catalog, "x", source / "parts", replace=True)
    assert Catalog.load(catalog).get("x").path == source / "parts"
    assert not (catalog.with_suffix(".d") / "x").exists()


@pytest.mark.slow
def test_a_catalog_that_cannot_be_written_keeps_the_old_model(
    catalog: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the entry cannot be written, the folder of the replaced model is back as it was."""
    add(catalog, "x", source / "model.safetensors")
    before = {file: file.read_bytes() for file in catalog.parent.rglob("*") if file.is_file()}

    def fail(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr("zoodip_core.base_models.registration.write_entry", fail)
    for name in ("x", "y"):
        with pytest.raises(StorageError):
            add(catalog, name, source / "model.safetensors", ema=True, replace=True)
    assert {file: file.read_bytes() for file in catalog.parent.rglob("*") if file.is_file()} == before


def test_a_mistyped_folder_is_said_to_be_no_folder(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name may be a hub id, so the hub is asked; the message says why."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = refusal(catalog, "x", "models/sd15")
    assert message.endswith("(models/sd15 is no file or folder here, so it was read as a hub id)")


def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(catalog: Path) -> None:
    """A mistyped file name is no hub id, although it has the form owner/name."""
    for name in ("downloads/x.safetensors", "../nowhere", "./x"):
        assert refusal(catalog, "x", name).startswith(f"source: got '{name}', which does not exist;")


def test_the_ending_of_a_file_name_may_be_in_capitals(catalog: Path, source: Path, tmp_path: Path) -> None:
    """A pickle is named as such, and a checkpoint is added."""
    (tmp_path / "OLD.CKPT").write_bytes(b"\x80\x02")
    assert "a pickle, which can run code" in refusal(catalog, "old", tmp_path / "OLD.CKPT")
    shutil.copy(source / "model.safetensors", tmp_path / "MODEL.SAFETENSORS")
    add(catalog, "capitals", tmp_path / "MODEL.SAFETENSORS")
    assert Catalog.load(catalog).get("capitals").path is not None
