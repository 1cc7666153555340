"""Base model that a client of A1111's API has selected. A1111 has one for all clients; here each owner has one."""

from __future__ import annotations

from api.auth import Caller
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.errors import UnknownBaseModelError
from zoodip_core.service.errors import NotFoundError
from zoodip_core.service.object_store import owner_folder

CHECKPOINT = "sd_model_checkpoint"
"""Name of the selected base model in options and override settings."""


def find_checkpoint(caller: Caller, name: str) -> BaseModelEntry:
    """Return the base model that a client names.

    Raises:
        UnknownBaseModelError: The catalog has no such base model. The message names A1111's field.
    """
    try:
        return caller.service.base_models.catalog.get(name)
    except UnknownBaseModelError as error:
        message = CHECKPOINT + error.message.removeprefix(str(error.field))
        raise UnknownBaseModelError(message, field=CHECKPOINT) from error


def current_model(caller: Caller) -> str:
    """Return the name of the selected base model, or the default one.

    Raises:
        StorageError: The object store is unavailable.
    """
    catalog = caller.service.base_models.catalog
    try:
        return catalog.get(caller.service.objects.get(_object_name(caller.owner)).decode()).name
    except (NotFoundError, UnknownBaseModelError):  # none is selected, or it is no longer in the catalog
        return catalog.default.name


def select_model(caller: Caller, name: str) -> None:
    """Select a base model for all later requests of the owner.

    Raises:
        UnknownBaseModelError: The catalog has no such base model.
        StorageError: The object store is unavailable.
    """
    entry = find_checkpoint(caller, name)
    caller.service.objects.put(_object_name(caller.owner), entry.name.encode())


def _object_name(owner: str) -> str:
    return f"a1111/{owner_folder(owner)}/base-model"
