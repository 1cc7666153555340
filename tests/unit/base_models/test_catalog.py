"""Catalog of base models: entries, validation of catalog files, and resolved settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.families import Family
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidSettingsError, UnknownBaseModelError


def write_catalog(folder: Path, text: str) -> Path:
    """Write a catalog file next to a folder `sd15`."""
    (folder / "sd15").mkdir(exist_ok=True)
    path = folder / "models.toml"
    path.write_text(text)
    return path


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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A missing file is an error, not an empty catalog."""
    with pytest.raises(
        InvalidSettingsError,
        match=r"got an unreadable file \(No such file or directory\); expected a TOML file .*nowhere\.toml",
    ):
        Catalog.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("family", "precision", "changed"),
    [
        ("sd1", "int8", {}),
        ("sd1", "nf4", {"mu": 1e-2}),
        ("sd2", "int8", {"mu": 1e-2, "learning_rate": 1e-2}),
        ("sdxl", "int8", {"mu": 1e-2, "t_low": 700, "steps": 20_000}),
    ],
)
def test_the_paper_preset_has_the_papers_values_for_each_family(
    tmp_path: Path, family: Family, precision: str, changed: dict[str, float]
) -> None:
    """The preset `paper` ignores the settings of the catalog entry; `default` applies them."""
    entry = BaseModelEntry.model_validate(
        {"name": "a", "path": tmp_path, "precision": precision, "settings": {"n": 8}}
    )
    expected = PersonalizationSettings.parse(changed | {"null_directions": "remove"})
    assert resolve_settings(entry, family, "paper", {}) == expected
    assert resolve_settings(entry, family, "default", {}) == PersonalizationSettings.parse(changed | {"n": 8})


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_script_preset_differs_from_the_paper_as_the_script_does(tmp_path: Path, family: Family) -> None:
    """Rate, divisor, sampling and fitting of images are those of the published script; the rest is the paper's."""
    entry = BaseModelEntry(name="a", path=tmp_path, settings={"n": 8})
    paper, script = (resolve_settings(entry, family, preset, {}) for preset in ("paper", "script"))
    differing = {name: value for name, value in script.model_dump().items() if value != getattr(paper, name)}
    assert {"learning_rate": 1e-2} | differing == {
        "learning_rate": 1e-2,
        "estimate_scale": "dimension",
        "image_sampling": "without_replacement",
        "image_fit": "squash",
    }
    assert script.learning_rate == 1e-2


def test_the_precision_of_the_u_net_decides_the_papers_settings(tmp_path: Path) -> None:
    """An NF4 U-Net needs μ = 1e-2, whatever precision the other parts have."""
    entry = BaseModelEntry(name="a", path=tmp_path, unet_precision="nf4", vae_precision="fp32")
    assert str(entry.precisions) == "nf4/int8/fp32"
    assert resolve_settings(entry, "sd1", "paper", {}).mu == 1e-2


def test_settings_of_the_request_take_precedence() -> None:
    """They override the settings of the catalog entry and of the family."""
    entry = Catalog.load().default
    settings = resolve_settings(entry, "sdxl", "default", {"mu": 0.5, "steps": "12", "search_space": "full"})
    assert (settings.mu, settings.steps, settings.n) == (0.5, 12, 4)


def test_the_default_search_of_a_base_model_with_a_calibration_is_calibrated() -> None:
    """The embedded model has a calibration: 136 steps of eight directions take 1,224 U-Net evaluations."""
    entry = Catalog.load().default
    settings = resolve_settings(entry, "sd1", "default", {"seed": 5})
    assert (settings.search_space, settings.steps, settings.n, settings.seed) == ("calibrated", 136, 8, 5)
    assert settings.evaluations == 1224
    asked = resolve_settings(entry, "sd1", "default", {"search_space": "calibrated", "steps": 67})
    assert asked == resolve_settings(entry, "sd1", "default", {"steps": 67})


@pytest.mark.parametrize(
    "overrides",
    [{"search_space": "full"}, {"vectors": 2}, {"learning_rate": 0.01}, {"estimator": "spsa"}, {"tau": 64}],
)
def test_a_request_for_what_only_the_full_space_has_is_searched_there(overrides: dict[str, object]) -> None:
    """Such a setting would have no effect in the calibrated space."""
    settings = resolve_settings(Catalog.load().default, "sd1", "default", overrides)
    assert (settings.search_space, settings.steps, settings.n) == ("full", 720, 4)


@pytest.mark.parametrize("preset", ["paper", "script"])
def test_the_presets_of_the_paper_ignore_the_calibration(preset: str) -> None:
    """They search the full space, for comparison."""
    settings = resolve_settings(Catalog.load().default, "sd1", preset, {})
    assert (settings.search_space, settings.n) == ("full", 2)


def test_a_catalog_file_decides_over_the_calibrated_search(tmp_path: Path) -> None:
    """Its table `calibrated_settings` changes that search; `search_space` or `vectors` in `settings` turn it off."""
    text = """
        [[base_models]]
        name = "sd15"
        path = "sd15"
        settings = { steps = 5000 }
        calibrated_settings = { steps = 300 }
    """
    entry = Catalog.load(write_catalog(tmp_path, text)).get("sd15")
    assert resolve_settings(entry, "sd1", "default", {}).steps == 5000
    (tmp_path / "sd15.calibration.safetensors").touch()
    settings = resolve_settings(entry, "sd1", "default", {})
    assert (settings.search_space, settings.steps, settings.n) == ("calibrated", 300, 8)
    for own in ({"search_space": "full"}, {"vectors": 2}):
        changed = entry.model_copy(update={"settings": {"steps": 5000} | own})
        assert resolve_settings(changed, "sd1", "default", {}).steps == 5000


def test_the_full_space_of_the_embedded_model_has_its_measured_settings() -> None:
    """720 steps of 4 directions take 3,600 U-Net evaluations.

    Source: docs/decisions/0025-default-timesteps-and-constant-rate.md.
    """
    settings = resolve_settings(Catalog.load().default, "sd1", "default", {"search_space": "full"})
    assert settings.steps * (settings.n + 1) == 3600
    assert (settings.directions, settings.subspace) == ("orthogonal", "none")
    assert (settings.learning_rate, settings.learning_rate_schedule) == (0.03, "constant")
    assert (settings.adam_eps, settings.mu, settings.t_low, settings.t_high) == (1e-8, 1e-3, 500, 900)


@pytest.mark.parametrize(
    ("preset", "overrides", "field"),
    [
        ("papre", {}, "settings.preset"),
        ("default", {"nn": 2}, "settings.nn"),
        ("paper", {"n": 0}, "settings.n"),
    ],
)
def test_a_mistake_in_a_request_names_the_setting(preset: str, overrides: dict[str, int], field: str) -> None:
    """Unknown presets, unknown settings and bad values raise an error that names the field."""
    with pytest.raises(InvalidSettingsError) as error:
        resolve_settings(Catalog.load().default, "sd1", preset, overrides)
    assert error.value.field == field
    assert error.value.message.startswith(field)


def test_the_api_imports_these_modules_without_torch() -> None:
    """A process that only validates requests stays small."""
    code = (
        "import sys, zoodip_core.base_models.catalog, zoodip_core.images, zoodip_core.artifact; "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
