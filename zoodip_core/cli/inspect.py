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
    """Show the token, the base model and the provenance of a concept file."""
    from zoodip_core.artifact import load_concept

    concept = load_concept(file)
    fields: dict[str, Any] = {
        "token": concept.token,
        "kind": concept.kind,
        "base_model": concept.base_model,
        "fingerprint": concept.fingerprint,
        "family": concept.family,
        "vectors": {name: list(value.shape) for name, value in concept.embeddings.items()},
        "provenance": concept.provenance_dict(),
    }
    if as_json:
        print_json(fields)
    else:
        print_fields(fields)
