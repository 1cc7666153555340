"""`zoodip inspect`: show the content of a concept file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoodip_core.cli.console import print_fields, print_json
from zoodip_core.cli.options import JsonOption


def inspect(
    file: Annotated[Path, typer.Argument(help="Concept file (safetensors).")], as_json: JsonOption = False
) -> None:
    """Show the token, the base model and the provenance of a concept file.

    `token` is the token that `generate` uses. `token_in_file` is its spelling in the file, empty if the file contains
    none; then `token` is the name of the file.
    """
    from zoodip_core.artifact import read_concept_file

    found = read_concept_file(file)
    header = found.header
    fields: dict[str, Any] = {
        "token": found.token,
        "token_in_file": header.token,
        "kind": header.kind,
        "base_model": header.base_model,
        "fingerprint": header.fingerprint,
        "family": header.family,
        "vectors": {name: list(value.shape) for name, value in found.embeddings.items()},
        "provenance": header.as_dict()["provenance"],
    }
    if as_json:
        print_json(fields)
    else:
        print_fields(fields)
