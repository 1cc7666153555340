"""The settings of the training: each entry known, there, and in its range, or one line that names it."""

import dataclasses
from pathlib import Path

import pytest

from models.emoji.errors import EmojiModelError
from models.emoji.settings import FILE, read_settings
from models.emoji.train.__main__ import PARTS, with_budget


@pytest.mark.parametrize(
    ("written", "instead", "told"),
    [
        ("warmup_steps", "warmup", r"diffusion\.warmup is unknown; allowed: batch, rate, .*warmup_steps"),
        ("text_layers = 3", "", r"diffusion\.text_layers is missing"),
        ("[clip]", "[klip]", r"klip is unknown; allowed: data, components, .*judge"),
    ],
)
def test_a_misspelt_or_missing_setting_is_named(
    tmp_path: Path, written: str, instead: str, told: str
) -> None:
    """An entry that is unknown comes with the known ones, in the file and in a table of it."""
    path = tmp_path / "settings.toml"
    path.write_text(FILE.read_text().replace(written, instead, 1))
    with pytest.raises(EmojiModelError, match=rf"settings\.toml: {told}"):
        read_settings(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, r"settings\.toml cannot be read: No such file"),
        ("[data", r"settings\.toml are not TOML: Expected"),
        ("", r"settings\.toml: data is missing"),
    ],
)
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, text: str | None, told: str) -> None:
    """A missing file, one that is not TOML, and an empty one each get one message with the path."""
    path = tmp_path / "settings.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EmojiModelError, match=told):
        read_settings(path)


def test_a_part_of_the_settings_that_is_no_table_is_named(tmp_path: Path) -> None:
    """A number where a table belongs."""
    path = tmp_path / "settings.toml"
    _, _, rest = FILE.read_text().partition("[components]")
    path.write_text(f"data = 3\n[components]{rest}")
    with pytest.raises(EmojiModelError, match=r"settings\.toml: data is 3; allowed: a table, \[data\]"):
        read_settings(path)


def test_a_rate_that_would_never_be_whole_is_refused(tmp_path: Path) -> None:
    """A decay over more pictures than there are."""
    path = tmp_path / "settings.toml"
    path.write_text(FILE.read_text().replace("decay = 450_000", "decay = 680_001"))
    with pytest.raises(
        EmojiModelError, match=r"diffusion\.decay is 680001; allowed: .* up to pictures, 680000"
    ):
        read_settings(path)


def test_fewer_pictures_keep_the_share_over_which_the_rate_falls() -> None:
    """A tenth of the pictures has a tenth of the decay, unless it is given, and only of the parts asked for."""
    given = read_settings()
    fewer = with_budget(given, PARTS, 68_000, None, None)
    assert (fewer.diffusion.pictures, fewer.diffusion.decay) == (68_000, 45_000)
    assert (fewer.clip.pictures, fewer.clip.decay) == (68_000, 27_200)
    asked = with_budget(given, ["diffusion"], 68_000, 10, 64)
    assert asked.diffusion == dataclasses.replace(given.diffusion, pictures=68_000, decay=10, batch=64)
    assert asked.clip == given.clip
    assert with_budget(given, ["data"], None, None, None) == given


@pytest.mark.parametrize(
    ("part", "pictures", "decay", "told"),
    [
        ("data", 500, None, r"--pictures: data is not trained; .*\(data\.pictures in the settings file"),
        ("components", None, 3, r"--decay: components is not trained"),
        ("clip", 100, 101, r"clip\.decay is 101; allowed: whole numbers up to pictures, 100"),
    ],
)
def test_numbers_that_a_part_cannot_use_are_refused(
    part: str, pictures: int | None, decay: int | None, told: str
) -> None:
    """What is composed is said in the settings, and a decay fits the pictures."""
    with pytest.raises(EmojiModelError, match=told):
        with_budget(read_settings(), [part], pictures, decay, None)
