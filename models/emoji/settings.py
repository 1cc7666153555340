"""The settings of every part of the training, read from `settings.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models.emoji.errors import EmojiModelError

FILE = Path(__file__).parent / "settings.toml"


@dataclass(frozen=True)
class DataSettings:
    """How much is composed."""

    pictures: int
    processes: int


@dataclass(frozen=True)
class LoopSettings:
    """What every training loop needs."""

    batch: int
    rate: float
    average: float  # of the weights: the share kept at each step
    warmup_steps: int
    pictures: int  # seen in all
    decay: int  # the rate falls to nothing over the last so many pictures


@dataclass(frozen=True)
class DiffusionSettings(LoopSettings):
    """U-Net and text encoder."""

    channels: tuple[int, ...]
    layers_per_block: int
    text_width: int
    text_layers: int
    caption_dropout: float
    styled_share: float  # of a batch, beside those that come by chance
    logit_normal_share: float  # of the timesteps; the rest is uniform


@dataclass(frozen=True)
class AutoencoderSettings(LoopSettings):
    """The autoencoder."""

    channels: tuple[int, ...]
    layers_per_block: int
    norm_groups: int
    styled_share: float  # of a batch, beside those that come by chance
    guessed_share: float  # of a batch: latents by the U-Net's word, not the picture's own


@dataclass(frozen=True)
class ClipSettings(LoopSettings):
    """The scoring pair."""

    width: int
    projection: int
    vision_layers: int
    text_layers: int
    patch_px: int


@dataclass(frozen=True)
class JudgeSettings(LoopSettings):
    """The classifier that judges what is drawn."""

    channels: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """All parts."""

    data: DataSettings
    diffusion: DiffusionSettings
    autoencoder: AutoencoderSettings
    clip: ClipSettings
    judge: JudgeSettings


PARTS = {
    "data": DataSettings,
    "diffusion": DiffusionSettings,
    "autoencoder": AutoencoderSettings,
    "clip": ClipSettings,
    "judge": JudgeSettings,
}


def read_settings(path: Path = FILE) -> Settings:
    """The settings of a file.

    Raises:
        EmojiModelError: the file is missing, or an entry of it is missing or unknown.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        parts = {
            name: kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in table[name].items()})
            for name, kind in PARTS.items()
        }
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as broken:
        raise EmojiModelError(f"the settings {path} lack or misspell an entry: {broken}") from broken
    return Settings(**parts)
