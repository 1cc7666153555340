"""Adds a base model to a catalog file and removes it; nothing is registered if anything fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from zoodip_core.base_models.catalog import EMBEDDED, BaseModelEntry
from zoodip_core.base_models.catalog_file import listed_names, relative_path, remove_entry, write_entry
from zoodip_core.base_models.model_facts import ModelFacts, read_model_facts
from zoodip_core.base_models.model_source import NewModel, delete_written_folder, located, written_folder
from zoodip_core.errors import InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def add_model(catalog: Path, model: NewModel, check: Callable[[Path, Path | None], None]) -> ModelFacts:
    """Add a base model to a catalog file.

    Args:
        catalog: the catalog file; created if it does not exist.
        model: the base model.
        check: validates that the weights of a pipeline folder and of a custom VAE match their configurations.

    Raises:
        InvalidInputError: the name is malformed or taken, or an option does not fit the source.
        InvalidModelError: the source is no model that can be used.
        StorageError: the catalog or the folder cannot be written.
    """
    _check_name(catalog, model)
    with located(catalog, model) as location:
        facts = read_model_facts(location.folder)
        check(location.folder, model.vae)
        values = {"name": model.name, **location.fields}
        if model.vae is not None:
            values["vae"] = relative_path(model.vae, catalog)
        optional = {"precision": model.precision, "default": model.default or None}
        values |= {name: value for name, value in optional.items() if value is not None}
        if "hub_id" in values:
            values["family"] = facts.family
        values["fingerprint"] = facts.fingerprint
        BaseModelEntry.model_validate(values)
        with location.installed():
            write_entry(catalog, values)
    if values.get("path") != relative_path(written_folder(catalog, model.name), catalog):
        delete_written_folder(catalog, model.name)  # of the entry that was replaced
    return facts


def remove_model(catalog: Path, name: str) -> Path | None:
    """Remove a base model from a catalog file. Weights stay; configurations that `add_model` wrote are deleted.

    Returns:
        The folder that was deleted, or None.

    Raises:
        UnknownBaseModelError: the file has no entry of that name.
        StorageError: the catalog cannot be written.
    """
    fields = remove_entry(catalog, name)
    if fields.get("path") != relative_path(written_folder(catalog, name), catalog):
        return None
    return delete_written_folder(catalog, name)


def _check_name(catalog: Path, model: NewModel) -> None:
    if not _NAME.fullmatch(model.name):
        raise InvalidInputError.mismatch(
            "name",
            got=repr(model.name),
            expected="1 to 63 letters, digits, '.', '_' and '-', starting with a letter or digit",
        )
    if model.name in listed_names(EMBEDDED):
        raise InvalidInputError.mismatch(
            "name", got=f"{model.name!r}, which is the embedded model", expected="another name"
        )
    if model.name in listed_names(catalog) and not model.replace:
        raise InvalidInputError.mismatch(
            "name", got=f"{model.name!r}, which {catalog} has already", expected="another name, or --replace"
        )
