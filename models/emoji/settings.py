"""The settings of every part of the training, read from `settings.toml`."""

import math
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from operator import ge
from pathlib import Path
from typing import Any, ClassVar

from models.emoji.errors import EmojiModelError

FILE = Path(__file__).parent / "settings.toml"
HEAD_WIDTH = 48  # of attention in the text encoders and the scoring pair
LEAST_WIDTHS = (12, 16, 20, 64)  # of the autoencoder's levels: 2 × 2 pixels, components, pairs and constants


@dataclass(frozen=True)
class PartSettings:
    """The settings of one part, each in its range."""

    SIZES: ClassVar[tuple[str, ...]] = ()  # the settings that shape the part's weights

    def __post_init__(self) -> None:
        """Refuse a value out of range.

        Raises:
            EmojiModelError: names the setting, what it is and what is allowed.
        """
        for field in fields(self):
            allowed, test = _range(field.name, field.type)
            self._require(field.name, test(getattr(self, field.name)), allowed)
        for name, fits, allowed in self.shapes():
            self._require(name, fits, allowed)

    def _require(self, name: str, fits: bool, allowed: str) -> None:
        if not fits:
            value = getattr(self, name)
            shown = list(value) if isinstance(value, tuple) else value
            raise EmojiModelError(f"{name} is {shown!r}; allowed: {allowed}")

    def shapes(self) -> list[tuple[str, bool, str]]:
        """Settings that not every network can be built with: name, whether it fits, and what is allowed."""
        return []

    @property
    def sizes(self) -> dict[str, Any]:
        """What weights of this part are made for; weights of other sizes do not fit."""
        return {name: getattr(self, name) for name in self.SIZES}


def _range(name: str, kind: Any) -> tuple[str, Callable[[Any], bool]]:
    """What a setting may be, in words and as a test; a bool is no number here."""
    if kind is int:
        least = 0 if name == "decay" else 1
        return f"whole numbers from {least} on", lambda value: type(value) is int and value >= least
    if kind is float and name == "rate":
        return "numbers above 0", lambda value: type(value) in (int, float) and 0 < value < math.inf
    if kind is float:
        return "numbers from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1
    return (
        "a list of whole numbers from 1 on",
        lambda value: (
            isinstance(value, tuple) and len(value) > 0 and all(type(one) is int and one > 0 for one in value)
        ),
    )


def _width(name: str, width: int) -> tuple[str, bool, str]:
    """Whether heads of about `HEAD_WIDTH` divide a transformer's width."""
    return name, width % max(1, width // HEAD_WIDTH) == 0, f"multiples of {HEAD_WIDTH}"


@dataclass(frozen=True)
class DataSettings(PartSettings):
    """How much is composed."""

    pictures: int
    processes: int


@dataclass(frozen=True)
class ComponentsSettings(PartSettings):
    """The principal components."""

    pictures: int  # the first of the training set


@dataclass(frozen=True)
class LoopSettings(PartSettings):
    """What every training loop needs."""

    batch: int
    rate: float
    average: float  # of the weights: the share kept at each step
    warmup_steps: int
    pictures: int  # seen in all
    decay: int  # the rate falls to nothing over the last so many pictures
    samples_every: int  # pictures between two looks at the averaged weights: a grid, or figures

    def __post_init__(self) -> None:
        """Refuse a value out of range, and a decay that would never let the rate be whole."""
        super().__post_init__()
        self._require("decay", self.decay <= self.pictures, f"whole numbers up to pictures, {self.pictures}")


@dataclass(frozen=True)
class DiffusionSettings(LoopSettings):
    """U-Net and text encoder."""

    SIZES: ClassVar = ("channels", "layers_per_block", "text_width", "text_layers")

    channels: tuple[int, ...]
    layers_per_block: int
    text_width: int
    text_layers: int
    caption_dropout: float
    styled_share: float  # of a batch, beside those that come by chance
    logit_normal_share: float  # of the timesteps; the rest is uniform

    def shapes(self) -> list[tuple[str, bool, str]]:
        """The U-Net's norms and heads divide its channels, the text encoder's heads its width."""
        divided = all(
            channels >= 32 and channels % 16 == 0 == channels % (channels // 32) for channels in self.channels
        )
        allowed = "multiples of 16 from 32 on, divided by their heads, one for every 32"
        return [("channels", divided, allowed), _width("text_width", self.text_width)]


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """The autoencoder."""

    SIZES: ClassVar = ("channels", "layers_per_block", "norm_groups")

    channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    styled_share: float  # of a batch, beside those that come by chance
    guessed_share: float  # of a batch: latents by the U-Net's word, not the picture's own

    def shapes(self) -> list[tuple[str, bool, str]]:
        """The wired encoder needs four levels that are wide enough (`train/wiring.py`)."""
        divided = all(channels % self.norm_groups == 0 for channels in self.channels)
        rising = len(self.channels) == 4 and list(self.channels) == sorted(set(self.channels))
        wide = rising and all(map(ge, self.channels, LEAST_WIDTHS))
        return [
            ("norm_groups", self.norm_groups in (1, 2, 4, 8), "1, 2, 4 or 8"),
            (
                "channels",
                wide and divided,
                f"four rising multiples of norm_groups from {list(LEAST_WIDTHS)} on",
            ),
        ]


@dataclass(frozen=True)
class ClipSettings(LoopSettings):
    """The scoring pair."""

    SIZES: ClassVar = ("width", "projection", "vision_layers", "text_layers", "patch_px")

    width: int
    projection: int
    vision_layers: int
    text_layers: int
    patch_px: int

    def shapes(self) -> list[tuple[str, bool, str]]:
        """Patches fill a picture, heads divide the width."""
        return [("patch_px", self.patch_px in (4, 8, 16, 32), "4, 8, 16 or 32"), _width("width", self.width)]


@dataclass(frozen=True)
class JudgeSettings(LoopSettings):
    """The classifier that judges what is drawn."""

    SIZES: ClassVar = ("channels",)

    composed: int  # pictures of its own, since it has to know what is held out too
    channels: tuple[int, ...]

    def shapes(self) -> list[tuple[str, bool, str]]:
        """Four stages, divided by their norms."""
        fits = len(self.channels) == 4 and all(channels % 8 == 0 for channels in self.channels)
        return [("channels", fits, "four multiples of 8")]


@dataclass(frozen=True)
class Settings:
    """All parts."""

    data: DataSettings
    components: ComponentsSettings
    diffusion: DiffusionSettings
    autoencoder: AutoencoderSettings
    clip: ClipSettings
    judge: JudgeSettings


PARTS: dict[str, type[PartSettings]] = {
    "data": DataSettings,
    "components": ComponentsSettings,
    "diffusion": DiffusionSettings,
    "autoencoder": AutoencoderSettings,
    "clip": ClipSettings,
    "judge": JudgeSettings,
}


def read_settings(path: Path = FILE) -> Settings:
    """The settings of a file.

    Raises:
        EmojiModelError: the file is missing or no TOML, or an entry of it is missing, unknown or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_names(PARTS, table)
        return Settings(**{name: _part(name, kind, table[name]) for name, kind in PARTS.items()})
    except OSError as missing:
        raise EmojiModelError(f"the settings {path} cannot be read: {missing.strerror}") from missing
    except ValueError as broken:
        raise EmojiModelError(f"the settings {path} are not TOML: {broken}") from broken
    except EmojiModelError as refused:
        raise EmojiModelError(f"the settings {path}: {refused}") from refused


def _part(name: str, kind: type[PartSettings], table: Any) -> Any:
    """One table of a settings file; its lists become tuples."""
    if not isinstance(table, dict):
        raise EmojiModelError(f"{name} is {table!r}; allowed: a table, [{name}]")
    try:
        _check_names([field.name for field in fields(kind)], table)
        return kind(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        )
    except EmojiModelError as refused:
        raise EmojiModelError(f"{name}.{refused}") from refused


def _check_names(allowed: Collection[str], table: dict[str, Any]) -> None:
    """Pass if a table has every entry that it may have, and no other.

    Raises:
        EmojiModelError: names the entry.
    """
    for name in table:
        if name not in allowed:
            raise EmojiModelError(f"{name} is unknown; allowed: {', '.join(allowed)}")
    for name in allowed:
        if name not in table:
            raise EmojiModelError(f"{name} is missing")
