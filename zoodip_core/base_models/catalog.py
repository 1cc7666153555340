"""The catalog of base models: location of the weights, precision and default settings by name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoodip_core.base_models.calibrated_settings import CALIBRATED, FULL_SPACE_ONLY
from zoodip_core.base_models.families import Family
from zoodip_core.config import ConceptKind, PartPrecisions, PersonalizationSettings, Precision
from zoodip_core.errors import InvalidSettingsError, UnknownBaseModelError
from zoodip_core.expectations import expectation

EMBEDDED = Path(__file__).parents[1] / "assets" / "catalog.toml"

_Template = Annotated[str, Field(pattern=r"\{\}")]


class BaseModelEntry(BaseModel):
    """One base model of the catalog. `path` or `hub_id` locates its pipeline folder."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    path: Path | None = None
    hub_id: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str | None = Field(None, min_length=1)  # of hub_id: commit, tag or branch
    variant: Literal["fp16"] | None = None  # of hub_id: which files to download
    family: Family | None = None  # required with hub_id: settings depend on it before the download
    fingerprint: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")  # of the files when the model was added
    vae: Path | None = None  # folder of a VAE that replaces the pipeline's
    precision: Precision = "int8"
    unet_precision: Precision | None = None  # a part without its own has that of `precision`
    text_encoder_precision: Precision | None = None
    vae_precision: Precision | None = None
    default: bool = False
    calibration: Path | None = None  # file of `zoodip calibrate`; default: <name>.calibration.safetensors
    settings: dict[str, Any] = Field(default_factory=dict)  # of a personalization, over the family's
    calibrated_settings: dict[str, Any] = Field(default_factory=dict)  # over those of a calibrated search
    steps: int | None = Field(None, ge=1, le=1000)  # of a generation
    guidance_scale: float | None = Field(None, ge=0, le=100)
    templates: dict[ConceptKind, tuple[_Template, ...]] = Field(
        default_factory=dict
    )  # {} is replaced by the token

    @model_validator(mode="after")
    def _one_location(self) -> Self:
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("either path or hub_id, and not both")
        if self.hub_id is not None and self.family is None:
            raise ValueError(f"family next to hub_id, one of {', '.join(get_args(Family))}")
        if self.hub_id is None and (self.revision is not None or self.variant is not None):
            raise ValueError("revision and variant next to hub_id only")
        return self

    @property
    def precisions(self) -> PartPrecisions:
        """Precision of each part."""
        named = PartPrecisions.of(self.precision)
        return PartPrecisions(
            unet=self.unet_precision or named.unet,
            text_encoder=self.text_encoder_precision or named.text_encoder,
            vae=self.vae_precision or named.vae,
        )

    @property
    def has_calibration(self) -> bool:
        """Whether the calibration file exists."""
        return self.calibration is not None and self.calibration.is_file()

    @property
    def generation(self) -> dict[str, Any]:
        """Default settings of a generation."""
        given = {"steps": self.steps, "guidance_scale": self.guidance_scale}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Catalog:
    """The base models by name; exactly one is the default."""

    entries: tuple[BaseModelEntry, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Load the embedded model, and the models of a TOML file with `[[base_models]]` tables.

        A relative `path`, `vae` or `calibration` in the file is relative to the folder of the file.

        Raises:
            InvalidSettingsError: a value is not allowed; the message names table and field.
        """
        embedded = _read(EMBEDDED)
        added = [] if path is None else _read(path)
        chosen = [entry.name for entry in added if entry.default]
        if len(chosen) > 1:
            raise _fault(path, None, "default", " and ".join(chosen), "one default model")
        if chosen:
            embedded = [entry.model_copy(update={"default": False}) for entry in embedded]
        names = [entry.name for entry in embedded]
        for number, entry in enumerate(added):
            if entry.name in names:
                raise _fault(path, number, "name", f"{entry.name!r}, which is used twice", "a unique name")
            names.append(entry.name)
        return cls((*embedded, *added))

    @property
    def default(self) -> BaseModelEntry:
        """Base model of requests that name none."""
        return next(entry for entry in self.entries if entry.default)

    def get(self, name: str | None = None) -> BaseModelEntry:
        """Return the base model of that name, or the default for None.

        Raises:
            UnknownBaseModelError: the catalog has no such model; lists the names.
        """
        if name is None:
            return self.default
        for entry in self.entries:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.entries)
        raise UnknownBaseModelError.mismatch("base_model", got=repr(name), expected=f"one of {names}")


def _read(path: Path) -> list[BaseModelEntry]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _fault(path, None, None, f"an unreadable file ({error.strerror})", "a TOML file") from error
    except ValueError as error:
        raise _fault(path, None, None, f"invalid TOML ({error})", "a TOML file") from error
    unknown = sorted(set(tables) - {"base_models"})
    models = tables.get("base_models", [])
    if unknown or not isinstance(models, list):
        got = ", ".join(unknown) or "base_models that is not a list of tables"
        raise _fault(path, None, None, got, "[[base_models]] tables only")
    return [_entry(path, number, values) for number, values in enumerate(models)]


def _entry(path: Path, number: int, values: dict[str, Any]) -> BaseModelEntry:
    """Parse one table and validate its settings now, not in the first request."""
    try:
        entry = BaseModelEntry.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(BaseModelEntry.model_fields))
            raise _fault(path, number, field, "an unknown field", f"one of {names}") from error
        got = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise _fault(path, number, field or None, got, expectation(first["msg"])) from error
    _check_settings(path, number, "settings", entry.settings)
    _check_calibrated_settings(path, number, entry.calibrated_settings)
    calibration = entry.calibration or Path(f"{entry.name}.calibration.safetensors")
    places = {"path": entry.path, "vae": entry.vae, "calibration": calibration}
    located = {
        name: (path.parent / place.expanduser()).absolute()
        for name, place in places.items()
        if place is not None
    }
    _check_places(path, number, located, calibration_is_given=entry.calibration is not None)
    return entry.model_copy(update=located)


def _check_places(catalog: Path, number: int, places: dict[str, Path], *, calibration_is_given: bool) -> None:
    """Validate that folders and files of an entry exist. A calibration that is not given may be missing.

    Raises:
        InvalidSettingsError: one is missing, or not of its kind.
    """
    path, vae, calibration = (places.get(name) for name in ("path", "vae", "calibration"))
    if path is not None and path.is_file():
        expected = "a folder; `zoodip models add` adds a file"
        raise _fault(catalog, number, "path", f"the file {path}", expected)
    if path is not None and not path.is_dir():
        raise _fault(catalog, number, "path", f"{path}, which does not exist", "an existing folder")
    if vae is not None and not vae.is_dir():
        raise _fault(catalog, number, "vae", f"{vae}, which is no folder", "an existing folder")
    assert calibration is not None, "each entry has a path"
    if not calibration.is_file() and (calibration_is_given or calibration.exists()):
        given = "a file that `zoodip calibrate --out` wrote; leave the field out until it exists"
        expected = given if calibration_is_given else "a file of `zoodip calibrate`, or none"
        raise _fault(catalog, number, "calibration", f"{calibration}, which is no regular file", expected)


def _check_calibrated_settings(path: Path, number: int, values: dict[str, Any]) -> None:
    """Validate a table of settings that replace those of the calibrated search.

    Raises:
        InvalidSettingsError: a setting is unknown, has no effect in this search, or its value is not allowed.
    """
    for name in sorted((FULL_SPACE_ONLY | {"search_space", "vectors"}) & values.keys()):
        expected = "a setting that the calibrated search has"
        raise _fault(path, number, f"calibrated_settings.{name}", repr(values[name]), expected)
    _check_settings(path, number, "calibrated_settings", CALIBRATED | values)


def _check_settings(path: Path, number: int, name: str, values: dict[str, Any]) -> None:
    """Validate a table of settings of a personalization."""
    try:
        PersonalizationSettings.parse(values)
    except InvalidSettingsError as error:
        place = f"base_models[{number}].{name}"
        message = f"{place}{error.message.removeprefix('settings')} (catalog {path})"
        raise InvalidSettingsError(message, field=place) from error


def _fault(
    path: Path | None, number: int | None, field: str | None, got: str, expected: str
) -> InvalidSettingsError:
    """Return the error for a bad catalog file; its field is the place in the file."""
    name = "base_models" if number is None else f"base_models[{number}]"
    place = f"{name}.{field}" if field else name
    message = f"{place}: got {got}; expected {expected} (catalog {path})"
    return InvalidSettingsError(message, field=place)
