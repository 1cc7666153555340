"""Options that several commands share, and the parser of `--set`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoodip_core.errors import InvalidSettingsError

CatalogOption = Annotated[
    Path | None,
    typer.Option("--catalog", envvar="ZOODIP_BASE_MODELS", help="TOML file that lists base models."),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option("--base-model", help="Base model from the catalog; default: that of the catalog."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, mps or xpu; default: cuda if available, else cpu."),
]
MaxRowsOption = Annotated[
    int | None,
    typer.Option(
        "--max-rows", min=1, help="Maximum number of U-Net rows in one forward pass; default: no limit."
    ),
]
DequantizedOption = Annotated[
    int | None,
    typer.Option(
        "--dequantized-mb",
        envvar="ZOODIP_DEQUANTIZED_MB",
        min=0,
        help="MB of U-Net and text encoders in fp32 up to which their weights stay dequantized; "
        "default: 64 on a CPU, 0 on other devices.",
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile",
        envvar="ZOODIP_COMPILE",
        help="Compile U-Net and text encoders in the background. Until then, and if that fails, they run eagerly.",
    ),
]
SafetyCheckerOption = Annotated[
    bool,
    typer.Option(
        "--safety-checker/--no-safety-checker",
        envvar="ZOODIP_SAFETY_CHECKER",
        help="Withhold images that the safety checker of the base model flags. "
        "A base model that ships none is not checked, with a warning.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line of stdout.")]


def parse_assignments(assignments: list[str], option: str = "set") -> dict[str, Any]:
    """Parse assignments: `["n=4", "directions=orthogonal"]` → `{"n": 4, "directions": "orthogonal"}`.

    Args:
        assignments: texts of the form NAME=VALUE; a value is parsed as JSON, or else kept as text.
        option: name of the command-line option, for the error message.

    Raises:
        InvalidSettingsError: an assignment is not NAME=VALUE.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not (name and separator and text):
            raise InvalidSettingsError.mismatch(option, got=repr(assignment), expected="NAME=VALUE")
        values[name] = _parse_value(text)
    return values


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
