"""`zoodip models`: list, add, show, verify and remove the base models of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoodip_core.cli.console import print_fields, print_json, print_table, say
from zoodip_core.cli.options import CatalogOption, JsonOption
from zoodip_core.errors import InvalidInputError, InvalidModelError

if TYPE_CHECKING:
    from zoodip_core.base_models.catalog import BaseModelEntry
    from zoodip_core.base_models.model_source import NewModel

models = typer.Typer(name="models")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name in the catalog.")]


@models.callback(invoke_without_command=True)
def _list_by_default(
    context: typer.Context, catalog: CatalogOption = None, as_json: JsonOption = False
) -> None:
    """List, add, show, verify and remove base models; without a command, list them."""
    context.obj = catalog
    if context.invoked_subcommand is None:
        list_models(context, catalog, as_json)


@models.command("list")
def list_models(context: typer.Context, catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """List the base models that can be personalized; `zoodip models` does the same."""
    from zoodip_core.base_models.catalog import Catalog

    loaded = Catalog.load(catalog or context.obj)
    rows = [
        {
            "name": entry.name,
            "default": entry.name == loaded.default.name,
            "precision": str(entry.precisions),
            "source": str(entry.path or entry.hub_id),
        }
        for entry in loaded.entries
    ]
    if as_json:
        print_json({"base_models": rows})
    else:
        columns = ["name", "default", "precision", "source"]
        print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder in diffusers' layout, .safetensors checkpoint, or hub id (owner/name).",
    ),
]
PrecisionOption = Annotated[
    Literal["int8", "nf4", "fp16", "fp32"] | None,
    typer.Option(help="How weights are stored in memory; default: int8."),
]
DefaultOption = Annotated[bool, typer.Option("--default", help="Use this model if a request names none.")]
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")]
VariantOption = Annotated[
    Literal["fp16"] | None, typer.Option(help="Files of a hub id to download; default: full precision.")
]
VaeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of a VAE in diffusers' layout that replaces that of SOURCE."),
]
PredictionTypeOption = Annotated[
    Literal["epsilon", "v_prediction"] | None,
    typer.Option(help="Prediction type of a checkpoint; default: detected."),
]
EmaOption = Annotated[
    bool, typer.Option("--ema", help="Use the moving average of a checkpoint that has both copies.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace the model of this name.")]


@models.command()
def add(
    context: typer.Context,
    name: NameArgument,
    source: SourceArgument,
    precision: PrecisionOption = None,
    default: DefaultOption = False,
    revision: RevisionOption = None,
    variant: VariantOption = None,
    vae: VaeOption = None,
    prediction_type: PredictionTypeOption = None,
    ema: EmaOption = False,
    replace: ReplaceOption = False,
    catalog: CatalogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a base model to the catalog file, which is created if it does not exist."""
    from zoodip_core.base_models.model_source import NewModel

    new = NewModel(
        name=name,
        source=source,
        precision=precision,
        default=default,
        revision=revision,
        variant=variant,
        vae=vae,
        prediction_type=prediction_type,
        ema=ema,
        replace=replace,
    )
    file = _catalog_file(context, catalog)
    _show({"name": name, "catalog": str(file), **_add(file, new)}, as_json=as_json)


@models.command()
def show(
    context: typer.Context, name: NameArgument, catalog: CatalogOption = None, as_json: JsonOption = False
) -> None:
    """Show the family, sizes, memory, fingerprint and calibration of a base model."""
    from zoodip_core.base_models.model_facts import read_model_facts
    from zoodip_core.base_models.model_folder import find_model_folder

    entry = _entry(catalog or context.obj, name)
    facts = read_model_facts(find_model_folder(entry)).as_dict()
    source = str(entry.path or entry.hub_id)
    vae = None if entry.vae is None else str(entry.vae)
    calibration = str(entry.calibration) if entry.has_calibration else None
    fields = {"name": name, "source": source, "revision": entry.revision, "vae": vae, **facts}
    missing = None if as_json else "none"
    _show(fields | {"calibration": calibration or missing}, as_json=as_json)


@models.command()
def verify(
    context: typer.Context, name: NameArgument, catalog: CatalogOption = None, as_json: JsonOption = False
) -> None:
    """Read all weights of a base model again and compare them with the fingerprint in the catalog."""
    from zoodip_core.base_models.fingerprint import fingerprint
    from zoodip_core.base_models.model_folder import find_model_folder
    from zoodip_core.diffusion.weight_checks import check_all_weights

    entry = _entry(catalog or context.obj, name)
    folder = find_model_folder(entry)
    found = fingerprint(folder)
    if entry.fingerprint is not None and found != entry.fingerprint:
        raise InvalidModelError.mismatch(
            "fingerprint", got=f"{found} in {folder}", expected=f"{entry.fingerprint}, as in the catalog"
        )
    check_all_weights(folder, entry.vae)
    compared = entry.fingerprint is not None
    say(f"{name}: all weights can be read" + ("; the fingerprint is that of the catalog" if compared else ""))
    if as_json:
        print_json({"name": name, "fingerprint": found, "compared": compared})


@models.command()
def remove(
    context: typer.Context, name: NameArgument, catalog: CatalogOption = None, as_json: JsonOption = False
) -> None:
    """Remove a base model from the catalog file. Its weights stay on disk."""
    from zoodip_core.base_models.registration import remove_model

    file = _catalog_file(context, catalog)
    deleted = remove_model(file, name)
    say(f"{name} removed from {file}" + ("" if deleted is None else f"; {deleted} deleted"))
    if as_json:
        print_json({"name": name, "catalog": str(file), "deleted": deleted and str(deleted)})


def _add(file: Path, new: NewModel) -> dict[str, Any]:
    """Add a model; an unusable source is invalid input here, not a broken installation."""
    from zoodip_core.base_models.registration import add_model
    from zoodip_core.diffusion.weight_checks import check_all_weights

    try:
        return add_model(file, new, check_all_weights).as_dict()
    except InvalidModelError as error:
        if error.field not in (None, "base_model", "source"):  # an option
            raise InvalidInputError(error.message, field=error.field) from error
        message = error.message.removeprefix("base_model: ").removeprefix("source: ")
        raise InvalidInputError(f"source: {message}", field="source") from error


def _catalog_file(context: typer.Context, catalog: Path | None) -> Path:
    """Return the catalog file to edit."""
    file: Path | None = catalog or context.obj
    if file is None:
        raise InvalidInputError.mismatch(
            "catalog", got="none", expected="a TOML file: --catalog models.toml, or ZOODIP_BASE_MODELS"
        )
    return file


def _entry(catalog: Path | None, name: str) -> BaseModelEntry:
    from zoodip_core.base_models.catalog import Catalog

    return Catalog.load(catalog).get(name)


def _show(fields: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(fields))
        return
    parameters = {part: f"{count:,}" for part, count in fields["parameters"].items()}
    shown = {name: _cell(value) if value is True else value for name, value in fields.items() if value}
    print_fields(shown | {"parameters": parameters})


def _cell(value: object) -> str:
    return {True: "yes", False: ""}.get(value, str(value)) if isinstance(value, bool) else str(value)
