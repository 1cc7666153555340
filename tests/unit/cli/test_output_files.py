"""Output paths: what is refused, what is protected from overwriting, and one process for each file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zoodip_core.cli.output_files import RunFiles, make_output_folder, reserved
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidCheckpointError, InvalidInputError
from zoodip_core.personalization.checkpoint import save_checkpoint
from zoodip_core.personalization.run_checkpoint import write_run
from zoodip_core.personalization.run_facts import RunFacts

OUT = Path("x.safetensors")
CHECKPOINT = Path("x.checkpoint.safetensors")
FACTS = RunFacts(
    "<x>", "dog", "object", None, "f" * 64, "fp32", ("0" * 64,), PersonalizationSettings.parse({"steps": 40})
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder."""
    monkeypatch.chdir(tmp_path)


def _listing() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def _save_run(*, finished: bool) -> None:
    write_run({"step": torch.tensor(12)}, CHECKPOINT, FACTS, finished=finished)


@pytest.fixture
def special() -> Iterator[dict[str, Path]]:
    """Return paths that no file can be written to, by what an error message calls them."""
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("to-device").symlink_to("/dev/null")
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    Path("file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        yield {
            "the named pipe pipe": Path("pipe"),
            "the folder folder": Path("folder"),
            "the folder .": Path(),
            "the device /dev/null": Path("/dev/null"),
            "the device to-device": Path("to-device"),
            "the socket socket": Path("socket"),
            "Too many levels of symbolic links: a": Path("a"),
            "Not a directory: file/x": Path("file/x"),
            "File name too long: ": Path("n" * 300),
            "missing/x, whose folder is missing or not writable": Path("missing/x"),
        }


def test_only_files_are_written_to(special: dict[str, Path]) -> None:
    """Devices, pipes, sockets, folders, loops and missing folders are refused by name, also with `--replace`."""
    before = _listing()
    for name, path in special.items():
        for replace in (False, True):
            with pytest.raises(InvalidInputError) as error, reserved(path, resume=False, replace=replace):
                pass
            assert error.value.message.startswith(f"out: got {name}")
            assert error.value.field == "out"
    assert _listing() == before


@pytest.mark.parametrize("name", ["-", " ", "x.pt", "x", ".safetensors", "x.SAFETENSORS"])
def test_a_concept_has_the_suffix_of_its_format(name: str) -> None:
    """Programs recognize the format by the suffix, and concepts that differ only in it would share a checkpoint."""
    for replace in (False, True):
        with (
            pytest.raises(InvalidInputError, match=f"out: got '{name}'; expected the name of a safetensors"),
            reserved(Path(name), resume=False, replace=replace),
        ):
            pass
    assert _listing() == []


def test_a_name_without_room_for_the_lock_is_refused() -> None:
    """The name of a concept fits in the file system, but that of its lock does not; the error says so."""
    name = f"{'n' * 230}.safetensors"
    with (
        pytest.raises(InvalidInputError, match="out: got File name too long"),
        reserved(Path(name), resume=False, replace=False),
    ):
        pass
    assert _listing() == []


def test_an_existing_concept_is_refused() -> None:
    """The message names the ways out; `--replace` is one of them."""
    OUT.write_bytes(b"precious")
    with pytest.raises(InvalidInputError) as error, reserved(OUT, resume=False, replace=False):
        pass
    assert error.value.message == (
        "out: got the existing file x.safetensors; expected another file, or --replace to overwrite it"
    )
    with reserved(OUT, resume=False, replace=True) as files:
        assert files == RunFiles(OUT, CHECKPOINT)
    assert OUT.read_bytes() == b"precious"


def test_the_checkpoint_of_an_unfinished_run_is_refused() -> None:
    """The message says how far the run came, and names `--resume` and `--replace`; both are accepted."""
    _save_run(finished=False)
    with pytest.raises(InvalidInputError) as error, reserved(OUT, resume=False, replace=False):
        pass
    assert error.value.message == (
        "out: got x.safetensors with the checkpoint of an unfinished run (step 12 of 40); "
        "expected --resume to continue that run, --replace to start over, or another file"
    )
    for resume, replace in ((True, False), (False, True), (True, True)):
        with reserved(OUT, resume=resume, replace=replace):
            pass
    assert _listing() == [CHECKPOINT.name]


def test_the_checkpoint_of_an_earlier_version_is_refused() -> None:
    """It has no facts, and counts as unfinished: earlier versions deleted it at the end of a run."""
    save_checkpoint({"step": torch.tensor(12)}, CHECKPOINT, identity="0" * 64)
    with (
        pytest.raises(InvalidInputError, match=r"unfinished run \(step 12\)"),
        reserved(OUT, resume=False, replace=False),
    ):
        pass


def test_the_checkpoint_of_a_finished_run_is_no_obstacle() -> None:
    """It refuses no new run; if the concept still exists, the message also offers to extend the search."""
    _save_run(finished=True)
    with reserved(OUT, resume=False, replace=False):
        pass
    OUT.touch()
    with (
        pytest.raises(InvalidInputError, match="--resume with a larger --steps to extend its search"),
        reserved(OUT, resume=False, replace=False),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"my notes", b"\x00" * 100])
def test_a_file_that_is_no_checkpoint_is_not_overwritten(content: bytes) -> None:
    """A damaged checkpoint or a file of the same name is refused; `--replace` overwrites it."""
    CHECKPOINT.write_bytes(content)
    with (
        pytest.raises(InvalidCheckpointError, match=r"damaged.*--replace"),
        reserved(OUT, resume=False, replace=False),
    ):
        pass
    with reserved(OUT, resume=False, replace=True):
        pass


def test_a_symlink_is_followed() -> None:
    """Checkpoint and protection belong to the target, whether it exists or not."""
    Path("real").mkdir()
    OUT.symlink_to("real/y.safetensors")
    with reserved(OUT, resume=False, replace=False) as files:
        assert files.checkpoint.resolve() == Path("real/y.checkpoint.safetensors").resolve()
    Path("real/y.safetensors").touch()
    with (
        pytest.raises(InvalidInputError, match=r"the existing file x\.safetensors"),
        reserved(OUT, resume=False, replace=False),
    ):
        pass


_HOLD = """
import sys
from pathlib import Path
from zoodip_core.cli.output_files import reserved
with reserved(Path(sys.argv[1]), resume=False, replace=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["orderly", "killed"])
def test_two_processes_cannot_learn_one_file(ended: str) -> None:
    """The second one is refused, also through a symlink, until the first one ends in any way."""
    Path("link.safetensors").symlink_to(OUT)
    command = [sys.executable, "-c", _HOLD, str(OUT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        for path in (OUT, Path("link.safetensors")):
            with (
                pytest.raises(InvalidInputError, match=f"{path}, which another process is learning"),
                reserved(path, resume=False, replace=True),
            ):
                pass
        if ended == "killed":
            first.kill()
    with reserved(OUT, resume=False, replace=False):
        pass
    assert _listing() == ["link.safetensors"]


def test_an_output_folder_is_created_or_refused() -> None:
    """Missing parents are created; a file or a device is refused."""
    make_output_folder(Path("a/b"))
    make_output_folder(Path("a/b"))
    assert Path("a/b").is_dir()
    Path("file").touch()
    for path in (Path("file"), Path("file/x"), Path("/dev/null")):
        with pytest.raises(InvalidInputError, match=f"out: got {path} "):
            make_output_folder(path)
