"""Catalog of base models: entries, and validation of catalog files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tooling.catalogs import write_catalog
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.errors import InvalidSettingsError, UnknownBaseModelError


def test_the_embedded_model_is_the_default_without_a_file() -> None:
    """Without a file, the catalog has `emoji` in INT8, with its generation defaults and templates."""
    catalog = Catalog.load()
    assert [entry.name for entry in catalog.entries] == ["emoji"]
    entry = catalog.get()
    assert entry is catalog.default is catalog.get("emoji")
    assert entry.precision == "int8"
    assert entry.path is not None
    assert entry.path.parts[-3:] == ("zoodip_core", "assets", "emoji")
    assert entry.generation == {"steps": 20, "guidance_scale": 2.0}
    assert all("{}" in sentence for kind in ("object", "style") for sentence in entry.templates[kind])


def test_a_file_adds_base_models(tmp_path: Path) -> None:
    """Paths are relative to the file, a hub id needs no path, and the file can set another default."""
    text = """
        [[base_models]]
        name = "sd15"
        path = "sd15"
        precision = "nf4"
        default = true
        settings = { n = 4 }

        [[base_models]]
        name = "sdxl"
        hub_id = "stabilityai/stable-diffusion-xl-base-1.0"
        family = "sdxl"
    """
    catalog = Catalog.load(write_catalog(tmp_path, text))
    assert [entry.name for entry in catalog.entries] == ["emoji", "sd15", "sdxl"]
    assert catalog.default.name == "sd15"
    assert [entry.default for entry in catalog.entries] == [False, True, False]
    assert catalog.get("sd15").path == tmp_path / "sd15"
    assert (catalog.get("sdxl").path, catalog.get("sdxl").precision) == (None, "int8")


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The message names field, value and allowed names."""
    with pytest.raises(UnknownBaseModelError) as error:
        Catalog.load().get("sd3")
    assert error.value.message == "base_model: got 'sd3'; expected one of emoji"
    assert error.value.field == "base_model"


SD15 = '[[base_models]]\nname = "sd15"\npath = "sd15"\n'


@pytest.mark.parametrize(
    ("text", "fault", "field"),
    [
        (
            SD15 + "colour = 1",
            "base_models[0].colour: got an unknown field; expected one of calibrated_settings, calibration, default",
            "colour",
        ),
        (SD15 + 'hub_id = "a/b"', "expected either path or hub_id, and not both", None),
        ('[[base_models]]\nname = "a"', "expected either path or hub_id, and not both", None),
        ('[[base_models]]\npath = "sd15"', "base_models[0].name: got nothing; expected a value", "name"),
        (
            '[[base_models]]\nname = "a b"\npath = "sd15"',
            "base_models[0].name: got 'a b'; expected text that matches pattern",
            "name",
        ),
        (
            '[[base_models]]\nname = "a"\npath = "no"',
            "no, which does not exist; expected an existing folder",
            "path",
        ),
        (
            '[[base_models]]\nname = "a"\nhub_id = "b/c"',
            "expected family next to hub_id, one of sd1, sd2, sdxl",
            None,
        ),
        (
            '[[base_models]]\nname = "a"\nhub_id = "sd15"',
            "base_models[0].hub_id: got 'sd15'; expected text that matches pattern",
            "hub_id",
        ),
        (
            SD15 + 'precision = "int3"',
            "base_models[0].precision: got 'int3'; expected 'int8', 'nf4'",
            "precision",
        ),
        (
            SD15 + "settings = { nn = 2 }",
            "base_models[0].settings.nn: got an unknown setting; expected one of",
            "settings",
        ),
        (
            SD15 + "calibrated_settings = { n = 0 }",
            "base_models[0].calibrated_settings.n: got 0; expected a number greater than or equal to 1",
            "calibrated_settings",
        ),
        (
            SD15 + "calibrated_settings = { learning_rate = 0.1 }",
            "calibrated_settings.learning_rate: got 0.1; expected a setting that the calibrated search has",
            "calibrated_settings.learning_rate",
        ),
        (
            SD15 + 'calibrated_settings = { search_space = "full" }',
            "calibrated_settings.search_space: got 'full'; expected a setting that the calibrated search has",
            "calibrated_settings.search_space",
        ),
        (
            SD15 + "calibrated_settings = { t_low = 960 }",
            "base_models[0].calibrated_settings: t_low is 960 and t_high is 950; expected t_low < t_high",
            "calibrated_settings",
        ),
        (
            SD15 + 'calibration = "absent.safetensors"',
            "absent.safetensors, which is no regular file; expected a file that `zoodip calibrate --out` wrote",
            "calibration",
        ),
        (SD15 + 'calibration = "sd15"', "sd15, which is no regular file; expected a file", "calibration"),
        (
            SD15 + 'calibration = "sd15.calibration.safetensors"',
            "sd15.calibration.safetensors, which is no regular file; expected a file",
            "calibration",
        ),
        (
            SD15 + "settings = { n = 0 }",
            "base_models[0].settings.n: got 0; expected a number greater than or equal to 1",
            "settings",
        ),
        (
            SD15 + 'templates = { object = ["a dog"] }',
            "templates.object.0: got 'a dog'; expected text that matches pattern",
            None,
        ),
        (SD15 + SD15, "base_models[1].name: got 'sd15', which is used twice; expected a unique name", "name"),
        ('[[base_models]]\nname = "emoji"\npath = "sd15"', "name: got 'emoji', which is used twice", "name"),
        (
            SD15 + 'default = true\n[[base_models]]\nname = "b"\npath = "sd15"\ndefault = true',
            "default: got sd15 and b; expected one default model",
            "default",
        ),
        ("[models]", "got models; expected [[base_models]] tables only", None),
        ("base_models = 3", "got base_models that is not a list of tables", None),
        ("base_models = [3]", "base_models[0]", None),
        ("base_models = [", "got invalid TOML", None),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, fault: str, field: str | None) -> None:
    """The message names file, table, field, value and allowed values."""
    with pytest.raises(InvalidSettingsError) as error:
        Catalog.load(write_catalog(tmp_path, text))
    assert fault in error.value.message
    assert error.value.message.endswith(f"(catalog {tmp_path / 'models.toml'})")
    if field:
        assert str(error.value.field).endswith(f".{field}")


def test_a_calibration_is_found_or_left_out(tmp_path: Path) -> None:
    """The default file may be missing, but not be a folder. A file with another name is given."""
    catalog = write_catalog(tmp_path, SD15)
    entry = Catalog.load(catalog).get("sd15")
    assert entry.calibration == tmp_path / "sd15.calibration.safetensors"
    assert not entry.has_calibration
    entry.calibration.mkdir()
    with pytest.raises(InvalidSettingsError, match=r"which is no regular file; expected .*, or none"):
        Catalog.load(catalog)
    (tmp_path / "own.safetensors").touch()
    write_catalog(tmp_path, SD15 + 'calibration = "own.safetensors"')
    entry = Catalog.load(catalog).get("sd15")
    assert (entry.calibration, entry.has_calibration) == (tmp_path / "own.safetensors", True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A missing file is an error, not an empty catalog."""
    with pytest.raises(
        InvalidSettingsError,
        match=r"got an unreadable file \(No such file or directory\); expected a TOML file .*nowhere\.toml",
    ):
        Catalog.load(tmp_path / "nowhere.toml")


def test_the_api_imports_these_modules_without_torch() -> None:
    """A process that only validates requests stays small."""
    code = (
        "import sys, zoodip_core.base_models.presets, zoodip_core.images, zoodip_core.artifact; "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
