"""Edits a catalog file in place: comments, order and formatting of other entries are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from zoodip_core.errors import InvalidSettingsError, UnknownBaseModelError
from zoodip_core.files import write_atomically

_LOCATION = ("path", "hub_id", "revision", "variant", "family", "fingerprint", "vae")
"""Fields that describe where the weights are; a replacement removes the old ones and keeps all other fields."""


def listed_names(path: Path) -> list[str]:
    """Return the names of the entries of a catalog file; [] if the file does not exist.

    Raises:
        InvalidSettingsError: the file cannot be read, or is not a catalog.
    """
    return [str(table.get("name")) for table in _tables(_read(path), path)]


def relative_path(target: Path, catalog: Path) -> str:
    """Return a path for the catalog: relative if it is inside the folder of the catalog, else absolute."""
    folder, target = catalog.absolute().parent, target.absolute()
    return os.path.relpath(target, folder) if target.is_relative_to(folder) else str(target)


def write_entry(path: Path, values: Mapping[str, Any]) -> None:
    """Add an entry to the catalog file, or replace the location of the entry with its name.

    The file is created if it does not exist.

    Raises:
        InvalidSettingsError: the file cannot be read, or is not a catalog.
        StorageError: the file cannot be written.
    """
    document = _read(path)
    tables = list(_tables(document, path))
    if values.get("default"):
        for table in tables:
            table.pop("default", None)
    entry = next((table for table in tables if table.get("name") == values["name"]), None)
    if entry is None:
        if tables:
            tables[-1].add(tomlkit.nl())
        document.setdefault("base_models", tomlkit.aot()).append(tomlkit.table())
        entry = list(_tables(document, path))[-1]
    for name in _LOCATION:
        entry.pop(name, None)
    for name, value in values.items():
        entry[name] = value
    write_atomically(path, tomlkit.dumps(document).encode())


def remove_entry(path: Path, name: str) -> dict[str, Any]:
    """Remove an entry from the catalog file and return its fields.

    Raises:
        UnknownBaseModelError: the file has no entry of that name.
        InvalidSettingsError: the file cannot be read, or is not a catalog.
        StorageError: the file cannot be written.
    """
    document = _read(path)
    for number, table in enumerate(_tables(document, path)):
        if table.get("name") == name:
            fields: dict[str, Any] = table.unwrap()
            del document["base_models"][number]
            write_atomically(path, tomlkit.dumps(document).encode())
            return fields
    names = ", ".join(listed_names(path)) or "no models"
    raise UnknownBaseModelError.mismatch("name", got=repr(name), expected=f"a name in {path}: {names}")


def _read(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, TOMLKitError, ValueError) as error:
        raise InvalidSettingsError.mismatch(
            "catalog", got=f"{path}, which cannot be read ({error})", expected="a TOML file"
        ) from error


def _tables(document: tomlkit.TOMLDocument, path: Path) -> Iterator[Any]:
    tables = document.get("base_models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidSettingsError.mismatch(
            "catalog", got=path, expected="a file with [[base_models]] tables"
        )
    return iter(tables)
