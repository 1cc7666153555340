"""The sprite package: pinned by its hash, and the committed sprites that come from it."""

from pathlib import Path

import pytest

from models.emoji.errors import SpriteError
from models.emoji.sprite_files import FOLDER, SIDE_PX, sprite, unpack
from models.emoji.world import shipped_world


def test_every_thing_has_a_committed_sprite_and_the_licence_is_there() -> None:
    """A bare machine has all sprites, of one size, with their licence."""
    for thing in shipped_world().things:
        assert sprite(thing).size == (SIDE_PX, SIDE_PX)
        assert sprite(thing).mode == "RGBA"
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


def test_an_altered_package_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    """A package with another hash gets one message with both hashes, and no sprite is written."""
    package = tmp_path / "altered.tgz"
    package.write_bytes(b"not the package")
    with pytest.raises(SpriteError, match=r"is not @lobehub/fluent-emoji-3d@1\.1\.0.*SHA-256"):
        unpack(package, tmp_path / "out", shipped_world())
    assert not (tmp_path / "out").exists()


def test_a_missing_package_says_how_to_get_it(tmp_path: Path) -> None:
    """A missing package names the command that fetches it."""
    with pytest.raises(SpriteError, match="npm pack"):
        unpack(tmp_path / "none.tgz", tmp_path / "out", shipped_world())
