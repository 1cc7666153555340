"""Settings of every part of the training, read from `settings.toml`."""

import math
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from operator import ge
from pathlib import Path
from typing import Any, ClassVar

from models.emoji.errors import EmojiModelError

SETTINGS_FILE = Path(__file__).parent / "settings.toml"
HEAD_WIDTH = 48  # of an attention head in the text encoder and the CLIP pair
MIN_CHANNELS = (12, 16, 20, 64)  # of the autoencoder's levels, required by the PCA encoder


@dataclass(frozen=True)
class PartSettings:
    """Validated settings of one part."""

    SIZES: ClassVar[tuple[str, ...]] = ()  # settings that determine the shapes of the part's weights

    def __post_init__(self) -> None:
        """Validate every setting.

        Raises:
            EmojiModelError: a value is out of range.
        """
        for field in fields(self):
            expected, test = _range(field.name, field.type)
            self._require(field.name, test(getattr(self, field.name)), expected)
        for name, valid, expected in self.shape_checks():
            self._require(name, valid, expected)

    def _require(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            value = getattr(self, name)
            shown = list(value) if isinstance(value, tuple) else value
            raise EmojiModelError(f"{name}: got {shown!r}; expected {expected}")

    def shape_checks(self) -> list[tuple[str, bool, str]]:
        """Return checks of the network's shape: setting, whether it is valid, and the expected values."""
        return []

    @property
    def sizes(self) -> dict[str, Any]:
        """The settings that weights must agree with."""
        return {name: getattr(self, name) for name in self.SIZES}


def _range(name: str, kind: Any) -> tuple[str, Callable[[Any], bool]]:
    """Return the range of a setting in words and as a test. A bool does not count as a number."""
    if kind is int:
        least = 0 if name == "decay" else 1
        return f"a whole number of at least {least}", lambda value: type(value) is int and value >= least
    if kind is float and name == "rate":
        return "a number above 0", lambda value: type(value) in (int, float) and 0 < value < math.inf
    if kind is float:
        return "a number from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1
    return (
        "a list of whole numbers of at least 1",
        lambda value: (
            isinstance(value, tuple) and len(value) > 0 and all(type(one) is int and one > 0 for one in value)
        ),
    )


def _width(name: str, width: int) -> tuple[str, bool, str]:
    """Validate that attention heads of about `HEAD_WIDTH` divide a transformer's width."""
    return name, width % max(1, width // HEAD_WIDTH) == 0, f"a multiple of {HEAD_WIDTH}"


@dataclass(frozen=True)
class DataSettings(PartSettings):
    """Settings of the composed training set."""

    pictures: int
    processes: int


@dataclass(frozen=True)
class ComponentsSettings(PartSettings):
    """Settings of the principal components."""

    pictures: int  # used for the fit, from the start of the training set


@dataclass(frozen=True)
class LoopSettings(PartSettings):
    """Settings of every training loop."""

    batch: int  # pictures per step
    rate: float  # learning rate
    average: float  # decay of the moving average of the weights
    warmup_steps: int
    pictures: int  # seen in total
    decay: int  # pictures at the end over which the learning rate falls to 0
    samples_every: int  # pictures between two samples of the averaged weights

    def __post_init__(self) -> None:
        """Validate every setting."""
        super().__post_init__()
        self._require("decay", self.decay <= self.pictures, f"at most pictures, {self.pictures}")


@dataclass(frozen=True)
class DiffusionSettings(LoopSettings):
    """Settings of the U-Net and the text encoder."""

    SIZES: ClassVar = ("channels", "layers_per_block", "text_width", "text_layers")

    channels: tuple[int, ...]
    layers_per_block: int
    text_width: int
    text_layers: int
    caption_dropout: float
    styled_share: float  # of a batch, in addition to the styled pictures drawn by chance
    logit_normal_share: float  # of the timesteps; the rest is uniform

    def shape_checks(self) -> list[tuple[str, bool, str]]:
        """Validate that norms and heads divide the U-Net's channels, and heads the text encoder's width."""
        divided = all(
            channels >= 32 and channels % 16 == 0 == channels % (channels // 32) for channels in self.channels
        )
        expected = "multiples of 16, at least 32 each, divisible by the number of heads (one per 32 channels)"
        return [("channels", divided, expected), _width("text_width", self.text_width)]


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """Settings of the autoencoder."""

    SIZES: ClassVar = ("channels", "layers_per_block", "norm_groups")

    channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    styled_share: float  # of a batch, in addition to the styled pictures drawn by chance
    guessed_share: float  # of a batch: latents predicted by the U-Net in one step

    def shape_checks(self) -> list[tuple[str, bool, str]]:
        """Validate that the PCA encoder has four levels that are wide enough (`train/pca_encoder.py`)."""
        divided = all(channels % self.norm_groups == 0 for channels in self.channels)
        rising = len(self.channels) == 4 and list(self.channels) == sorted(set(self.channels))
        wide = rising and all(map(ge, self.channels, MIN_CHANNELS))
        expected = f"four increasing multiples of norm_groups, at least {list(MIN_CHANNELS)}"
        return [
            ("norm_groups", self.norm_groups in (1, 2, 4, 8), "1, 2, 4 or 8"),
            ("channels", wide and divided, expected),
        ]


@dataclass(frozen=True)
class ClipSettings(LoopSettings):
    """Settings of the CLIP pair."""

    SIZES: ClassVar = ("width", "projection", "vision_layers", "text_layers", "patch_px")

    width: int
    projection: int
    vision_layers: int
    text_layers: int
    patch_px: int

    def shape_checks(self) -> list[tuple[str, bool, str]]:
        """Validate that patches fill a picture and heads divide the width."""
        return [("patch_px", self.patch_px in (4, 8, 16, 32), "4, 8, 16 or 32"), _width("width", self.width)]


@dataclass(frozen=True)
class JudgeSettings(LoopSettings):
    """Settings of the judge."""

    SIZES: ClassVar = ("channels",)

    composed: int  # pictures of its separate training set, which includes held-out items
    channels: tuple[int, ...]

    def shape_checks(self) -> list[tuple[str, bool, str]]:
        """Validate that there are four stages and that group norms divide them."""
        fits = len(self.channels) == 4 and all(channels % 8 == 0 for channels in self.channels)
        return [("channels", fits, "four multiples of 8")]


@dataclass(frozen=True)
class Settings:
    """Settings of all parts."""

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


def read_settings(path: Path = SETTINGS_FILE) -> Settings:
    """Read and validate a settings file.

    Raises:
        EmojiModelError: the file is missing or not TOML, or an entry is missing, unknown or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_names(PARTS, table)
        return Settings(**{name: _part(name, kind, table[name]) for name, kind in PARTS.items()})
    except OSError as missing:
        raise EmojiModelError(f"{path}: cannot read: {missing.strerror}") from missing
    except ValueError as broken:
        raise EmojiModelError(f"{path}: not TOML: {broken}") from broken
    except EmojiModelError as refused:
        raise EmojiModelError(f"{path}: {refused}") from refused


def _part(name: str, kind: type[PartSettings], table: Any) -> Any:
    """Return the settings of one table; lists become tuples."""
    if not isinstance(table, dict):
        raise EmojiModelError(f"{name}: got {table!r}; expected a table [{name}]")
    try:
        _check_names([field.name for field in fields(kind)], table)
        return kind(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        )
    except EmojiModelError as refused:
        raise EmojiModelError(f"{name}.{refused}") from refused


def _check_names(allowed: Collection[str], table: dict[str, Any]) -> None:
    """Validate that a table has exactly the allowed entries.

    Raises:
        EmojiModelError: an entry is unknown or missing.
    """
    for name in table:
        if name not in allowed:
            raise EmojiModelError(f"{name}: unknown setting; expected one of {', '.join(allowed)}")
    for name in allowed:
        if name not in table:
            raise EmojiModelError(f"{name}: missing; expected a value")
