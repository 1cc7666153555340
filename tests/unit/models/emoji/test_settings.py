"""The settings file: unknown, missing and out-of-range entries."""

import dataclasses
from pathlib import Path

import pytest

from models.emoji.errors import EmojiModelError
from models.emoji.settings import SETTINGS_FILE, read_settings
from models.emoji.train.__main__ import PARTS, with_budget


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "warmup_steps",
            "warmup",
            r"diffusion\.warmup: unknown setting; expected one of batch, rate, .*warmup_steps",
        ),
        ("text_layers = 3", "", r"diffusion\.text_layers: missing"),
        ("[clip]", "[klip]", r"klip: unknown setting; expected one of data, components, .*judge"),
    ],
)
def test_an_unknown_or_missing_setting_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The message for an unknown entry lists the known ones."""
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS_FILE.read_text().replace(old, new, 1))
    with pytest.raises(EmojiModelError, match=rf"settings\.toml: {message}"):
        read_settings(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"settings\.toml: cannot read: No such file"),
        ("[data", r"settings\.toml: not TOML: Expected"),
        ("", r"settings\.toml: data: missing"),
    ],
)
def test_an_unreadable_settings_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    """A missing, malformed or empty file gives a message with its path."""
    path = tmp_path / "settings.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EmojiModelError, match=message):
        read_settings(path)


def test_a_part_that_is_not_a_table_is_refused(tmp_path: Path) -> None:
    """The message for a number in place of a table has the name of the table."""
    path = tmp_path / "settings.toml"
    _, _, rest = SETTINGS_FILE.read_text().partition("[components]")
    path.write_text(f"data = 3\n[components]{rest}")
    with pytest.raises(EmojiModelError, match=r"settings\.toml: data: got 3; expected a table \[data\]"):
        read_settings(path)


def test_a_decay_over_more_pictures_than_seen_is_refused(tmp_path: Path) -> None:
    """The message has the largest allowed decay."""
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS_FILE.read_text().replace("decay = 450_000", "decay = 680_001"))
    with pytest.raises(
        EmojiModelError, match=r"diffusion\.decay: got 680001; expected at most pictures, 680000"
    ):
        read_settings(path)


def test_the_decay_scales_with_the_pictures() -> None:
    """A tenth of the pictures gets a tenth of the decay unless it is given; other parts are unchanged."""
    given = read_settings()
    fewer = with_budget(given, PARTS, 68_000, None, None)
    assert (fewer.diffusion.pictures, fewer.diffusion.decay) == (68_000, 45_000)
    assert (fewer.clip.pictures, fewer.clip.decay) == (68_000, 27_200)
    changed = with_budget(given, ["diffusion"], 68_000, 10, 64)
    assert changed.diffusion == dataclasses.replace(given.diffusion, pictures=68_000, decay=10, batch=64)
    assert changed.clip == given.clip
    assert with_budget(given, ["data"], None, None, None) == given


@pytest.mark.parametrize(
    ("part", "pictures", "decay", "message"),
    [
        ("data", 500, None, r"--pictures: got the part data; .*set data\.pictures in the settings file"),
        ("components", None, 3, r"--decay: got the part components; expected diffusion"),
        ("clip", 100, 101, r"clip\.decay: got 101; expected at most pictures, 100"),
    ],
)
def test_options_that_a_part_cannot_use_are_refused(
    part: str, pictures: int | None, decay: int | None, message: str
) -> None:
    """Budget options need a trained part, and a decay must not exceed the pictures."""
    with pytest.raises(EmojiModelError, match=message):
        with_budget(read_settings(), [part], pictures, decay, None)
