"""`zoodip models`: output, exit codes and messages of its commands."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tooling.single_files import write_published_like, write_single_file
from zoodip_core.cli.main import run

Zoodip = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zoodip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Zoodip:
    """Return a function that runs `zoodip` in an empty folder and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOODIP_BASE_MODELS", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zoodip", *map(str, arguments)])
        try:
            run()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.mark.slow
def test_a_model_is_added_shown_verified_and_removed(zoodip: Zoodip, family_folder: dict[str, Path]) -> None:
    """`show` prints what `add` printed; `verify` compares; after `remove` the model is gone."""
    catalog = ("--catalog", "models.toml")
    code, out, err = zoodip("models", "add", "xl", family_folder["sdxl"], *catalog, "--default", "--json")
    assert code == 0, err
    added = json.loads(out)
    assert (added["family"], added["prediction_type"], added["default_size"]) == (
        "sdxl",
        "epsilon",
        "64 × 64",
    )
    assert added["parameters"]["total"] == sum(
        count for part, count in added["parameters"].items() if part != "total"
    )
    assert list(added["memory_mb"]) == ["int8", "nf4", "fp16", "fp32"]
    shown = json.loads(zoodip("models", "show", "xl", *catalog, "--json")[1])
    assert {name: shown[name] for name in added.keys() - {"catalog"}} == {
        name: value for name, value in added.items() if name != "catalog"
    }
    (row,) = [row for row in zoodip("models", *catalog)[1].splitlines() if " xl " in row]
    assert " yes " in row
    code, _, err = zoodip("models", "verify", "xl", *catalog)
    assert (code, "the fingerprint is that of the catalog" in err) == (0, True)
    assert zoodip("models", "remove", "xl", *catalog)[0] == 0
    code, _, err = zoodip("models", "show", "xl", *catalog)
    assert (code, err) == (2, "error: base_model: got 'xl'; expected one of emoji\n")


@pytest.mark.slow
def test_show_says_whether_there_is_a_calibration(zoodip: Zoodip, family_folder: dict[str, Path]) -> None:
    """It is the file whose search is the default, or none."""
    catalog = ("--catalog", "models.toml")
    zoodip("models", "add", "sd1", family_folder["sd1"], *catalog)
    assert json.loads(zoodip("models", "show", "sd1", *catalog, "--json")[1])["calibration"] is None
    (row,) = [row for row in zoodip("models", "show", "sd1", *catalog)[1].splitlines() if "calib" in row]
    assert "none" in row
    Path("sd1.calibration.safetensors").touch()
    file = json.loads(zoodip("models", "show", "sd1", *catalog, "--json")[1])["calibration"]
    assert file == str(Path("sd1.calibration.safetensors").absolute())
    assert file in zoodip("models", "show", "sd1", *catalog)[1]


@pytest.mark.slow
def test_verify_finds_changed_files(zoodip: Zoodip, family_folder: dict[str, Path], tmp_path: Path) -> None:
    """A changed byte is found, and the message names both fingerprints."""
    folder = shutil.copytree(family_folder["sd1"], tmp_path / "sd1")
    zoodip("models", "add", "sd1", "sd1", "--catalog", "models.toml")
    (file,) = (folder / "unet").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    code, _, err = zoodip("models", "verify", "sd1", "--catalog", "models.toml")
    assert code == 1
    assert "error: fingerprint: got " in err
    assert err.endswith(", as in the catalog\n")


def test_the_catalog_option_works_before_and_after_the_command(zoodip: Zoodip, tmp_path: Path) -> None:
    """Both places select the file; without it, the message says how to name one."""
    (tmp_path / "models.toml").write_text('[[base_models]]\nname = "gone"\npath = "nowhere"\n')
    code, _, err = zoodip("models", "remove", "gone")
    assert (code, err.startswith("error: catalog: got none; expected a TOML file: --catalog")) == (2, True)
    assert zoodip("models", "--catalog", "models.toml", "remove", "gone")[0] == 0
    code, _, err = zoodip("models", "remove", "gone", "--catalog", "models.toml")
    assert (code, err) == (2, "error: name: got 'gone'; expected a name in models.toml: no models\n")


def test_an_unusable_source_is_invalid_input(zoodip: Zoodip, tmp_path: Path) -> None:
    """The exit code is 2, the field is the argument, and no catalog is created."""
    (tmp_path / "x.safetensors").write_bytes(b"GGUF" + b"0" * 50)
    code, out, err = zoodip("models", "add", "x", "x.safetensors", "--catalog", "models.toml", "--json")
    assert code == 2
    assert err.startswith(
        "error: source: x.safetensors is a GGUF file; expected a complete .safetensors file"
    )
    assert json.loads(out)["error"]["field"] == "source"
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.slow
def test_a_bad_option_is_named_instead_of_the_source(zoodip: Zoodip, tmp_path: Path) -> None:
    """A checkpoint without a moving average refuses `--ema` and is not called unusable."""
    write_single_file(write_published_like(tmp_path / "parts", "sd1"), tmp_path / "x.safetensors")
    code, out, err = zoodip("models", "add", "x", "x.safetensors", "--catalog", "m.toml", "--ema", "--json")
    assert code == 2
    assert err.startswith("error: ema: got x.safetensors, which has no model_ema.* tensors; expected")
    assert json.loads(out)["error"]["field"] == "ema"


def test_a_checkpoint_in_a_catalog_names_the_command(zoodip: Zoodip, tmp_path: Path) -> None:
    """An entry that points to a file is refused with the command that adds it."""
    (tmp_path / "x.safetensors").write_bytes(b"")
    (tmp_path / "models.toml").write_text('[[base_models]]\nname = "x"\npath = "x.safetensors"\n')
    code, _, err = zoodip("models", "--catalog", "models.toml")
    assert code == 2
    assert "x.safetensors; expected a folder; `zoodip models add` adds a file" in err
