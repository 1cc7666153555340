"""`zoodip inspect`: what a concept file holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zoodip_core.cli.console import print_json, print_table
from zoodip_core.cli.options import JsonOption


def inspect(
    file: Annotated[Path, typer.Argument(help="A concept file (safetensors).")], as_json: JsonOption = False
) -> None:
    """Show the token, the base model and the provenance of a concept file."""
    from zoodip_core.artifact import load_concept

    concept = load_concept(file)
    facts: dict[str, Any] = {
        "token": concept.token,
        "kind": concept.kind,
        "base_model": concept.base_model,
        "fingerprint": concept.fingerprint,
        "family": concept.family,
        "vectors": {name: list(value.shape) for name, value in concept.embeddings.items()},
        "provenance": concept.provenance_dict(),
    }
    if as_json:
        print_json(facts)
    else:
        print_table(["field", "value"], list(_rows(facts)))


def _rows(facts: Mapping[str, Any], within: str = "") -> Iterator[list[str]]:
    """A row a fact; those of a group are named `group.fact`."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{within}{name}.")
        else:
            yield [f"{within}{name}", "" if value is None else str(value)]
