"""The base models: names → where the weights lie, how precisely they are held, and their defaults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zoodip_core.base_models.families import Family
from zoodip_core.config import ConceptKind, PersonalizationSettings, Precision
from zoodip_core.errors import InvalidSettingsError, UnknownBaseModelError

Preset = Literal["default", "paper"]

EMBEDDED = Path(__file__).parents[1] / "assets" / "catalog.toml"

# Source: arXiv:2503.14868v1, Sec. 5.1 and supplement. SD1's are the defaults of `PersonalizationSettings`.
_PAPER: dict[Family, dict[str, Any]] = {
    "sd1": {},
    "sd2": {"mu": 1e-2, "learning_rate": 1e-2},
    "sdxl": {"mu": 1e-2, "t_low": 700, "steps": 20_000},
}
_PAPER_NF4: dict[str, Any] = {"mu": 1e-2}  # "INT4 U-Net"

_Sentence = Annotated[str, Field(pattern=r"\{\}")]


class BaseModelEntry(BaseModel):
    """One base model of the catalogue: `path` or `hub_id` says where its pipeline folder is."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    path: Path | None = None
    hub_id: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$")
    family: Family | None = None  # needed with hub_id: settings hang on it before anything is downloaded
    precision: Precision = "int8"
    default: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)  # of a personalization, over the family's
    steps: int | None = Field(None, ge=1, le=1000)  # of a generation
    guidance_scale: float | None = Field(None, ge=0, le=100)
    templates: dict[ConceptKind, tuple[_Sentence, ...]] = Field(
        default_factory=dict
    )  # {} stands for the token

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("either path or hub_id is needed, and not both")
        if self.hub_id is not None and self.family is None:
            raise ValueError(f"family is needed beside hub_id; allowed: {', '.join(get_args(Family))}")
        return self

    @property
    def generation(self) -> dict[str, Any]:
        """What a generation takes where the request says nothing."""
        given = {"steps": self.steps, "guidance_scale": self.guidance_scale}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Catalog:
    """The base models by name; exactly one is the default."""

    entries: tuple[BaseModelEntry, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """The embedded model, and those of a TOML file with `[[base_models]]` tables.

        A relative `path` in the file starts at the file's folder.

        Raises:
            InvalidSettingsError: names the table, the field, what came and what is allowed.
        """
        embedded = _read(EMBEDDED)
        added = [] if path is None else _read(path)
        for number, entry in enumerate(added):
            if entry.path is not None and not entry.path.is_dir():
                raise _fault(path, number, "path", f"the folder {entry.path} does not exist")
        chosen = [entry.name for entry in added if entry.default]
        if len(chosen) > 1:
            raise _fault(path, None, "default", f"{' and '.join(chosen)} are both it; allowed: one")
        if chosen:
            embedded = [entry.model_copy(update={"default": False}) for entry in embedded]
        names = [entry.name for entry in embedded]
        for number, entry in enumerate(added):
            if entry.name in names:
                raise _fault(path, number, "name", f"{entry.name!r} is taken already; allowed: another name")
            names.append(entry.name)
        return cls((*embedded, *added))

    @property
    def default(self) -> BaseModelEntry:
        """The base model of a request that names none."""
        return next(entry for entry in self.entries if entry.default)

    def get(self, name: str | None = None) -> BaseModelEntry:
        """The base model of that name; the default one for None.

        Raises:
            UnknownBaseModelError: lists the names that there are.
        """
        if name is None:
            return self.default
        for entry in self.entries:
            if entry.name == name:
                return entry
        allowed = ", ".join(entry.name for entry in self.entries)
        raise UnknownBaseModelError(f"base_model: {name!r} came; allowed: {allowed}", field="base_model")


def resolve_settings(
    entry: BaseModelEntry, family: Family, preset: str, overrides: dict[str, Any]
) -> PersonalizationSettings:
    """What a personalization runs with.

    Args:
        entry: the base model; its own settings count under the preset "default".
        family: its family.
        preset: "default", or "paper" for the settings as printed.
        overrides: what the request says itself; it wins over all else.

    Raises:
        InvalidSettingsError: an unknown preset or setting, or a value that is not allowed.
    """
    if preset not in ("default", "paper"):
        raise InvalidSettingsError(
            f"settings.preset = {preset!r}; allowed: default, paper", field="settings.preset"
        )
    values = _PAPER[family] | (_PAPER_NF4 if entry.precision == "nf4" else {})
    own = entry.settings if preset == "default" else {}
    return PersonalizationSettings.parse(values | own | overrides)


def _read(path: Path) -> list[BaseModelEntry]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _fault(path, None, None, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _fault(path, None, None, f"is no TOML: {error}") from error
    unknown = sorted(set(tables) - {"base_models"})
    models = tables.get("base_models", [])
    if unknown or not isinstance(models, list):
        came = ", ".join(unknown) or "base_models that is no list of tables"
        raise _fault(path, None, None, f"holds {came}; allowed: [[base_models]]")
    return [_entry(path, number, values) for number, values in enumerate(models)]


def _entry(path: Path, number: int, values: dict[str, Any]) -> BaseModelEntry:
    """One table; its settings are checked now rather than in the first request."""
    try:
        entry = BaseModelEntry.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(BaseModelEntry.model_fields))
            raise _fault(path, number, field, f"is no field; allowed: {allowed}") from error
        came = f"{first['input']!r}: " if field else ""
        raise _fault(path, number, field or None, came + first["msg"]) from error
    try:
        PersonalizationSettings.parse(_PAPER["sd1"] | entry.settings)
    except InvalidSettingsError as error:
        raise _fault(path, number, "settings", error.message) from error
    if entry.path is not None:
        entry = entry.model_copy(update={"path": (path.parent / entry.path.expanduser()).absolute()})
    return entry


def _fault(path: Path | None, number: int | None, field: str | None, fault: str) -> InvalidSettingsError:
    place = "" if number is None else f" base_models[{number}]"
    name = "base_models" if number is None else f"base_models[{number}]"
    message = f"catalogue {path}:{place}{f' {field}:' if field else ''} {fault}"
    return InvalidSettingsError(message, field=f"{name}.{field}" if field else name)
