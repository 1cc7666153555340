"""Sources of base models: finds what a user named, and writes the folder of a checkpoint in one file."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoodip_core.base_models import hub
from zoodip_core.base_models.catalog_file import relative_path
from zoodip_core.base_models.model_facts import NOTES
from zoodip_core.base_models.single_file.folder import write_pipeline_folder
from zoodip_core.base_models.single_file.noise_process import PredictionType
from zoodip_core.base_models.tensor_files import MAP_NAME
from zoodip_core.config import Precision
from zoodip_core.errors import InvalidInputError, InvalidModelError, StorageError

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
        vae: folder of a VAE that replaces that of the source; None for none.
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
    vae: Path | None = None
    prediction_type: PredictionType | None = None
    ema: bool = False
    replace: bool = False


@dataclass
class Location:
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


@contextmanager
def located(catalog: Path, model: NewModel) -> Iterator[Location]:
    """Find the files of the source; a folder that is written for a checkpoint disappears unless it is installed."""
    source = Path(model.source).expanduser()
    is_file = source.is_file()
    is_hub_id = not source.exists() and _is_hub_id(model.source)
    _check_options(model, is_file=is_file, is_hub_id=is_hub_id)
    if source.suffix.lower() in _PICKLES and not is_hub_id:
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
        yield Location(source, {"path": relative_path(source, catalog)})
    elif is_hub_id:
        yield _downloaded(model)
    else:
        raise InvalidInputError.mismatch(
            "source", got=f"{model.source!r}, which does not exist", expected=_SOURCE
        )


def _downloaded(model: NewModel) -> Location:
    """Download a model from the hub."""
    try:
        snapshot = hub.find_snapshot(model.source, model.revision, model.variant)
        folder = hub.download(snapshot)
    except InvalidModelError as error:
        note = f"{model.source} is no file or folder here, so it was read as a hub id"
        raise InvalidModelError(f"{error.message} ({note})", field=error.field) from error
    fields = {"hub_id": model.source, "revision": snapshot.commit, "variant": model.variant}
    return Location(folder, {name: value for name, value in fields.items() if value is not None})


@contextmanager
def _checkpoint(catalog: Path, model: NewModel, source: Path) -> Iterator[Location]:
    """Write the folder of a checkpoint under a temporary name, and delete it unless it is installed."""
    target = written_folder(catalog, model.name)
    if target.exists() and not (model.replace and _is_written_folder(target)):
        raise InvalidInputError.mismatch(
            "name", got=f"{model.name!r}, whose folder {target} exists already", expected="another name"
        )
    draft = target.with_name(f".{model.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_draft(draft, catalog, model, source)
        yield Location(draft, {"path": relative_path(target, catalog)}, target)
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
    of_hub = {"revision": model.revision, "variant": model.variant}
    of_file = {"prediction_type": model.prediction_type, "ema": model.ema or None}
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


def _is_hub_id(source: str) -> bool:
    return _HUB_ID.fullmatch(source) is not None and not source.lower().endswith((".safetensors", *_PICKLES))


def written_folder(catalog: Path, name: str) -> Path:
    """Return the folder of configurations that `add_model` writes for a checkpoint."""
    return catalog.absolute().with_suffix(".d") / name


def _is_written_folder(folder: Path) -> bool:
    return (folder / "unet" / MAP_NAME).is_file()


def delete_written_folder(catalog: Path, name: str) -> Path | None:
    """Delete the folder that `add_model` wrote for a checkpoint, and return it; None if there is none."""
    folder = written_folder(catalog, name)
    if not _is_written_folder(folder):
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return folder
