"""The safety checker that the folder of a base model ships: whether there is one, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoodip_core.base_models.families import read_config
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.errors import InvalidModelError

SafetyCheckerState = Literal["on", "off", "missing"]

PART, PROCESSOR = "safety_checker", "feature_extractor"
_CLASS = "StableDiffusionSafetyChecker"


@dataclass(frozen=True)
class SafetyCheckerFiles:
    """Files of a safety checker: the folder of its configuration, its weights, and the folder of its processor."""

    folder: Path
    weights: list[Path]
    processor: Path


def ships_safety_checker(folder: Path) -> bool:
    """Return whether the pipeline folder has a safety checker, or its `model_index.json` names one."""
    return _named_class(folder) is not None or (folder / PART / "config.json").is_file()


def safety_checker_files(folder: Path) -> SafetyCheckerFiles:
    """Return the files of the safety checker of a pipeline folder that ships one.

    Raises:
        InvalidModelError: a file is missing, the weights are no safetensors, or the checker is of another class.
    """
    name = _named_class(folder)
    if name not in (None, _CLASS):
        raise InvalidModelError.mismatch(PART, got=f"{name} in {folder}", expected=_CLASS)
    for file in (f"{PART}/config.json", f"{PROCESSOR}/preprocessor_config.json"):
        if not (folder / file).is_file():
            raise InvalidModelError.mismatch(
                PART, got=f"no {file} in {folder}", expected="the files that model_index.json names"
            )
    return SafetyCheckerFiles(folder / PART, weight_files(folder / PART), folder / PROCESSOR)


def safety_checker_state(folder: Path, *, enabled: bool) -> SafetyCheckerState:
    """Return what the safety checker of a base model does.

    Args:
        folder: pipeline folder.
        enabled: whether the operator enabled safety checkers.

    Returns:
        "on": flagged images are withheld; "off": not enabled; "missing": enabled, but the model ships none, so its
        images are not checked.
    """
    if not enabled:
        return "off"
    return "on" if ships_safety_checker(folder) else "missing"


def _named_class(folder: Path) -> str | None:
    """Return the class that `model_index.json` names, or None."""
    value = read_config(folder, "model_index.json").get(PART)  # [library, class]
    return value[-1] if isinstance(value, list) and value else None
