"""Presets: the default settings of a personalization, for each family and with a calibration."""

from __future__ import annotations

from typing import Any, Literal

from zoodip_core.base_models.calibrated_settings import CALIBRATED, FULL_SPACE_ONLY
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.families import Family
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidSettingsError

Preset = Literal["default", "paper", "script"]

# Source: arXiv:2503.14868v1, Sec. 5.1 and supplement. SD1's are the defaults of `PersonalizationSettings`.
_PAPER: dict[Family, dict[str, Any]] = {
    "sd1": {},
    "sd2": {"mu": 1e-2, "learning_rate": 1e-2},
    "sdxl": {"mu": 1e-2, "t_low": 700, "steps": 20_000},
}
_PAPER_NF4: dict[str, Any] = {"mu": 1e-2}  # "INT4 U-Net"
_AS_PRINTED: dict[str, Any] = {"null_directions": "remove"}  # Eq. (7), to the last row
_SCRIPT: dict[str, Any] = _AS_PRINTED | {
    "learning_rate": 1e-2,
    "estimate_scale": "dimension",
    "image_sampling": "without_replacement",
    "image_fit": "squash",
}
_PRESETS: dict[Preset, dict[str, Any]] = {"default": {}, "paper": _AS_PRINTED, "script": _SCRIPT}


def resolve_settings(
    entry: BaseModelEntry, family: Family, preset: str, overrides: dict[str, Any]
) -> PersonalizationSettings:
    """Resolve the settings of a personalization: family, then catalog entry, then request.

    With the preset "default", a base model with a calibration is searched in its calibrated space, with the settings
    of that search over those of the catalog entry. The entry or the request can ask for the full space by
    `search_space`, and the request also by a setting that only the full space has.

    Args:
        entry: the base model; the preset "default" uses its settings.
        family: its family.
        preset: "default", "paper" for the settings that the paper prints, or "script" for those of the authors'
            published script.
        overrides: settings of the request; they take precedence.

    Raises:
        InvalidSettingsError: an unknown preset or setting, or a value that is not allowed; or a calibrated search
            space for a base model without a calibration, or with a setting that has no effect in it.
    """
    if preset not in _PRESETS:
        names = ", ".join(_PRESETS)
        raise InvalidSettingsError.mismatch("settings.preset", got=repr(preset), expected=f"one of {names}")
    values = _PAPER[family] | (_PAPER_NF4 if entry.precisions.unet == "nf4" else {})
    if preset == "default":
        values |= entry.settings
        if _search_is_calibrated(entry, overrides):
            values |= CALIBRATED | entry.calibrated_settings
    else:
        values |= _PRESETS[preset]
    settings = PersonalizationSettings.parse(values | overrides)
    if settings.search_space == "calibrated":
        _check_calibration(entry)
        _check_effect(settings, values, overrides)
    return settings


def _check_calibration(entry: BaseModelEntry) -> None:
    """Validate that the base model has a calibration."""
    if not entry.has_calibration:
        raise InvalidSettingsError.mismatch(
            "settings.search_space",
            got=f"'calibrated', but {entry.name} has no calibration",
            expected=f"'full', or a calibration: zoodip calibrate --base-model {entry.name}",
        )


def _check_effect(
    settings: PersonalizationSettings, values: dict[str, Any], overrides: dict[str, Any]
) -> None:
    """Validate that a request changes no setting that the calibrated search ignores.

    One with all of them repeats the settings of another job, so it is accepted.
    """
    if overrides.keys() >= FULL_SPACE_ONLY:
        return
    fields = PersonalizationSettings.model_fields
    for name in sorted(FULL_SPACE_ONLY & overrides.keys()):
        if getattr(settings, name) != values.get(name, fields[name].default):
            raise InvalidSettingsError.mismatch(
                f"settings.{name}",
                got=repr(overrides[name]),
                expected="search_space='full', because the calibrated search has no such setting",
            )


def _search_is_calibrated(entry: BaseModelEntry, overrides: dict[str, Any]) -> bool:
    """Return whether the default search of these settings is the calibrated one."""
    given = entry.settings | overrides
    if "search_space" in given:
        return bool(given["search_space"] == "calibrated")
    return entry.has_calibration and given.get("vectors", 1) == 1 and not FULL_SPACE_ONLY & overrides.keys()
