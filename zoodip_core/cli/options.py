"""Options that several commands share, and how their text becomes settings."""

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
    str | None, typer.Option("--base-model", help="Name in the catalogue; its default if left out.")
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu or cuda; CUDA where there is one.")]
MaxRowsOption = Annotated[
    int | None,
    typer.Option("--max-rows", min=1, help="Most U-Net rows in one forward; no limit if left out."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line of stdout.")]


def parse_assignments(assignments: list[str], option: str = "set") -> dict[str, Any]:
    """`["n=4", "directions=orthogonal"]` → `{"n": 4, "directions": "orthogonal"}`.

    Raises:
        InvalidSettingsError: a part is not NAME=VALUE.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not (name and sign and text):
            raise InvalidSettingsError(f"--{option} {assignment!r}: allowed: NAME=VALUE", field=option)
        values[name] = _plain(text)
    return values


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
