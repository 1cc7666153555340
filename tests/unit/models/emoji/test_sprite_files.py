"""The sprite package: pinned by its hash, and the committed sprites that come from it."""

import shutil
from pathlib import Path

import pytest

from models.emoji.errors import SpriteError
from models.emoji.sprite_files import FOLDER, SIDE_PX, SUMS, pinned, read_sprite, sprite, unpack
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


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A folder with the sprite of the cat and the list of hashes; the path of the sprite."""
    for name in ("cat.png", SUMS):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path / "cat.png"


def test_every_committed_sprite_is_pinned() -> None:
    """The list of hashes names exactly the committed sprites, which are exactly the world's things."""
    names = {path.name for path in FOLDER.glob("*.png")}
    assert pinned(FOLDER).keys() == names == {f"{thing}.png" for thing in shipped_world().things}


@pytest.mark.parametrize("keep", [0, 3000, -1])
def test_a_sprite_that_was_cut_short_is_named(cat: Path, keep: int) -> None:
    """A sprite of fewer bytes gives one message with its path, not an error of the image library."""
    cat.write_bytes(cat.read_bytes()[:keep])
    with pytest.raises(SpriteError, match=r"cat\.png was altered or cut short: its SHA-256 is .*, expected "):
        read_sprite(cat.parent, "cat")


def test_another_picture_in_a_sprites_place_is_refused(cat: Path) -> None:
    """A whole PNG of something else is no sprite of the cat."""
    assert read_sprite(cat.parent, "cat").size == (SIDE_PX, SIDE_PX)
    shutil.copy(FOLDER / "dog.png", cat)
    with pytest.raises(SpriteError, match=r"cat\.png was altered"):
        read_sprite(cat.parent, "cat")


def test_a_sprite_without_a_pinned_hash_is_refused(cat: Path) -> None:
    """A PNG that the list does not name is not trusted; a missing list is named itself."""
    shutil.copy(cat, cat.with_name("yeti.png"))
    with pytest.raises(SpriteError, match=r"SHA256SUMS has no SHA-256 of yeti\.png"):
        read_sprite(cat.parent, "yeti")
    other = cat.parent / "other"
    other.mkdir()
    shutil.copy(cat, other / "cat.png")
    with pytest.raises(SpriteError, match=r"other/SHA256SUMS is missing or broken"):
        read_sprite(other, "cat")
