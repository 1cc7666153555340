"""Adds a base model to a catalog file and removes it; nothing is registered if anything fails."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoodip_core.base_models import hub
from zoodip_core.base_models.catalog import EMBEDDED, BaseModelEntry
from zoodip_core.base_models.catalog_file import listed_names, relative_path, remove_entry, write_entry
from zoodip_core.base_models.model_facts import NOTES, ModelFacts, read_model_facts
from zoodip_core.base_models.single_file.folder import write_pipeline_folder
from zoodip_core.base_models.single_file.noise_process import PredictionType
from zoodip_core.base_models.tensor_files import MAP_NAME
from zoodip_core.config import Precision
from zoodip_core.errors import InvalidInputError, InvalidModelError, StorageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_SOURCE = "a folder in diffusers' layout, a .safetensors checkpoint, or a hub id (owner/name)"
CONVERSION = (
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); d = d.get('state_dict', d); "
    "save_file({k: v.clone().contiguous() for k, v in d.items() if hasattr(v, 'shape')}, sys.argv[2])\""
)
"""Shell command that converts a pickle to safetensors; takes both file names. `weights_only` runs no code."""


@dataclass(frozen=True)
class NewModel:
    """A base model to add.

    Attributes:
        name: name in the catalog.
        source: pipeline folder, .safetensors checkpoint, or hub id.
        precision: how weights are stored in memory; None for the default of the catalog.
        default: whether requests that name no model use it.
        revision: branch, tag or commit of a hub id.
        variant: "fp16" for a hub id's files in half precision.
        prediction_type: what the U-Net of a checkpoint predicts; None detects it.
        ema: whether to use the moving average of a checkpoint's weights.
        replace: whether an entry of this name is replaced.
    """

    name: str
    source: str
    precision: Precision | None = None
    default: bool = False
    revision: str | None = None
    variant: str | None = None
    prediction_type: PredictionType | None = None
    ema: bool = False
    replace: bool = False


@dataclass
class _Location:
    """Folder of a model, fields of its entry, and the final name of a folder that was written under another one."""

    folder: Path
    fields: dict[str, Any]
    target: Path | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Give the folder its final name; if the block fails, the folder that was there before is back."""
        if self.target is None:
            yield
            return
        previous = self.folder.with_suffix(".old")
        try:
            if self.target.exists():
                self.target.rename(previous)
            self.folder.rename(self.target)
            yield
        except BaseException:
            if self.target.exists():
                self.target.rename(self.folder)
            if previous.exists():
                previous.rename(self.target)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def add_model(catalog: Path, model: NewModel, check: Callable[[Path], None]) -> ModelFacts:
    """Add a base model to a catalog file.

    Args:
        catalog: the catalog file; created if it does not exist.
        model: the base model.
        check: validates that the weights of a pipeline folder match its configurations, before the model is added.

    Raises:
        InvalidInputError: the name is malformed or taken, or an option does not fit the source.
        InvalidModelError: the source is no model that can be used.
        StorageError: the catalog or the folder cannot be written.
    """
    _check_name(catalog, model)
    with _located(catalog, model) as location:
        facts = read_model_facts(location.folder)
        check(location.folder)
        values = {"name": model.name, **location.fields}
        optional = {"precision": model.precision, "default": model.default or None}
        values |= {name: value for name, value in optional.items() if value is not None}
        if "hub_id" in values:
            values["family"] = facts.family
        values["fingerprint"] = facts.fingerprint
        BaseModelEntry.model_validate(values)
        with location.installed():
            write_entry(catalog, values)
    if values.get("path") != relative_path(_written_folder(catalog, model.name), catalog):
        _delete_written_folder(catalog, model.name)  # of the entry that was replaced
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
    if fields.get("path") != relative_path(_written_folder(catalog, name), catalog):
        return None
    return _delete_written_folder(catalog, name)


def _check_name(catalog: Path, model: NewModel) -> None:
    if not NAME.fullmatch(model.name):
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


@contextmanager
def _located(catalog: Path, model: NewModel) -> Iterator[_Location]:
    """Find the files of the source; a folder that is written for a checkpoint disappears unless it is installed."""
    source = Path(model.source).expanduser()
    is_file = source.is_file()
    is_hub_id = not source.exists() and _is_hub_id(model.source)
    _check_options(model, is_file=is_file, is_hub_id=is_hub_id)
    if source.suffix in _PICKLES and not is_hub_id:
        target = source.with_suffix(".safetensors")
        raise InvalidModelError(
            f"source: got {source}, a pickle, which can run code; expected {_SOURCE}. "
            f"To convert it: {CONVERSION} {shlex.quote(str(source))} {shlex.quote(str(target))}"
        )
    if is_file:
        with _checkpoint(catalog, model, source) as location:
            yield location
    elif source.is_dir():
        _check_folder(source)
        yield _Location(source, {"path": relative_path(source, catalog)})
    elif is_hub_id:
        yield _downloaded(model)
    else:
        raise InvalidInputError.mismatch("source", got=repr(model.source), expected=_SOURCE)


def _downloaded(model: NewModel) -> _Location:
    """Download a model from the hub."""
    try:
        snapshot = hub.find_snapshot(model.source, model.revision, model.variant)
        folder = hub.download(snapshot)
    except InvalidModelError as error:
        note = f"{model.source} is no file or folder here, so it was read as a hub id"
        raise InvalidModelError(f"{error.message} ({note})", field=error.field) from error
    fields = {"hub_id": model.source, "revision": snapshot.commit, "variant": model.variant}
    return _Location(folder, {name: value for name, value in fields.items() if value is not None})


@contextmanager
def _checkpoint(catalog: Path, model: NewModel, source: Path) -> Iterator[_Location]:
    """Write the folder of a checkpoint under a temporary name, and delete it unless it is installed."""
    target = _written_folder(catalog, model.name)
    if target.exists() and not (model.replace and _is_written_folder(target)):
        raise InvalidInputError.mismatch(
            "name", got=f"{model.name!r}, whose folder {target} exists already", expected="another name"
        )
    draft = target.with_name(f".{model.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_draft(draft, catalog, model, source)
        yield _Location(draft, {"path": relative_path(target, catalog)}, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if target.parent.is_dir() and not any(target.parent.iterdir()):
            target.parent.rmdir()


def _write_draft(draft: Path, catalog: Path, model: NewModel, source: Path) -> None:
    listed = relative_path(source, catalog)
    listed_as = listed if Path(listed).is_absolute() else f"../../../{listed}"
    try:
        draft.mkdir(parents=True)
        notes = write_pipeline_folder(
            draft, source, listed_as=listed_as, prediction_type=model.prediction_type, ema=model.ema
        )
        index = draft / "model_index.json"
        values = json.loads(index.read_text(encoding="utf-8")) | {NOTES: notes}
        index.write_text(json.dumps(values, indent=2), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{draft} could not be written: {error.strerror or error}") from error


def _check_options(model: NewModel, *, is_file: bool, is_hub_id: bool) -> None:
    """Validate that the options belong to the kind of source."""
    of_hub, of_file = (
        {"revision": model.revision, "variant": model.variant},
        {
            "prediction_type": model.prediction_type,
            "ema": model.ema or None,
        },
    )
    for options, allowed, expected in (
        (of_hub, is_hub_id, "this option with a hub id only"),
        (of_file, is_file, "this option with a .safetensors checkpoint only"),
    ):
        for name, value in options.items():
            if value is not None and not allowed:
                raise InvalidInputError.mismatch(name, got=f"{value} with {model.source}", expected=expected)


def _check_folder(folder: Path) -> None:
    """Validate that a folder is a pipeline; the message says what else it may be."""
    if (folder / "model_index.json").is_file():
        return
    files = sorted(file.name for file in folder.iterdir() if file.suffix in (".safetensors", *_PICKLES))
    if (folder / "config.json").is_file():
        found = "the folder of one network"
    elif files:
        found = f"a folder without model_index.json, but with {', '.join(files[:3])}: add a checkpoint by its file"
    else:
        found = "a folder without model_index.json"
    raise InvalidModelError.mismatch("source", got=f"{folder}, {found}", expected=_SOURCE)


def _written_folder(catalog: Path, name: str) -> Path:
    """Return the folder of configurations that `add_model` writes for a checkpoint."""
    return catalog.absolute().with_suffix(".d") / name


def _is_hub_id(source: str) -> bool:
    return _HUB_ID.fullmatch(source) is not None and not source.endswith((".safetensors", *_PICKLES))


def _is_written_folder(folder: Path) -> bool:
    return (folder / "unet" / MAP_NAME).is_file()


def _delete_written_folder(catalog: Path, name: str) -> Path | None:
    """Delete the folder that `add_model` wrote for a checkpoint, and return it; None if there is none."""
    folder = _written_folder(catalog, name)
    if not _is_written_folder(folder):
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return folder
