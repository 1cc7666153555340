"""Presets: settings of a personalization from family, catalog, calibration and request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tooling.catalogs import write_catalog
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.families import Family
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidSettingsError


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
    """The embedded model has a calibration: 100 steps of eight directions take 900 U-Net evaluations."""
    entry = Catalog.load().default
    settings = resolve_settings(entry, "sd1", "default", {"seed": 5})
    assert (settings.search_space, settings.steps, settings.n, settings.seed) == ("calibrated", 100, 8, 5)
    assert settings.evaluations == 900
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


def test_a_calibrated_search_refuses_a_change_without_effect() -> None:
    """A request for the calibrated space cannot change Adam's rate; it can repeat the resolved settings."""
    entry = Catalog.load().default
    asked = {"search_space": "calibrated", "tau": 64, "learning_rate": 0.5}
    with pytest.raises(InvalidSettingsError, match=r"learning_rate: got 0\.5; expected search_space"):
        resolve_settings(entry, "sd1", "default", asked)
    usual = resolve_settings(entry, "sd1", "default", {})
    assert resolve_settings(entry, "sd1", "default", {**usual.model_dump(), "tau": 64}).tau == 64
    varied = entry.model_copy(update={"settings": {"vectors": 2}})
    assert (
        resolve_settings(varied, "sd1", "default", {"search_space": "calibrated", "vectors": 1}).vectors == 1
    )


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
