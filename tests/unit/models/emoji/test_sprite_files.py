"""The sprites: pinned package, committed files and their hashes."""

import shutil
from pathlib import Path

import pytest

from models.emoji.errors import SpriteError
from models.emoji.sprite_files import FOLDER, SIDE_PX, SUMS, read_hashes, read_sprite, sprite, unpack
from models.emoji.world import shipped_world


def test_every_object_has_a_committed_sprite() -> None:
    """All sprites are committed in one size, with their license."""
    for name in shipped_world().objects:
        assert sprite(name).size == (SIDE_PX, SIDE_PX)
        assert sprite(name).mode == "RGBA"
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


def test_an_altered_package_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    """The message for a package with another hash has both hashes, and no sprite is written."""
    package = tmp_path / "altered.tgz"
    package.write_bytes(b"not the package")
    with pytest.raises(SpriteError, match=r"got SHA-256 .*; expected .*@lobehub/fluent-emoji-3d@1\.1\.0"):
        unpack(package, tmp_path / "out", shipped_world())
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_refused_with_a_command(tmp_path: Path) -> None:
    """The message for a missing package has the command that fetches it."""
    with pytest.raises(SpriteError, match="npm pack"):
        unpack(tmp_path / "none.tgz", tmp_path / "out", shipped_world())


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """Return the path of the cat's sprite in a folder with the list of hashes."""
    for name in ("cat.png", SUMS):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path / "cat.png"


def test_every_committed_sprite_is_pinned() -> None:
    """The list of hashes, the committed sprites and the objects of the world have the same names."""
    names = {path.name for path in FOLDER.glob("*.png")}
    assert read_hashes(FOLDER).keys() == names == {f"{name}.png" for name in shipped_world().objects}


@pytest.mark.parametrize("keep", [0, 3000, -1])
def test_a_truncated_sprite_is_refused(cat: Path, keep: int) -> None:
    """The message for a truncated sprite has its path and both hashes."""
    cat.write_bytes(cat.read_bytes()[:keep])
    with pytest.raises(SpriteError, match=r"cat\.png: got SHA-256 .*; expected "):
        read_sprite(cat.parent, "cat")


def test_another_picture_is_refused(cat: Path) -> None:
    """A valid PNG with another hash is refused."""
    assert read_sprite(cat.parent, "cat").size == (SIDE_PX, SIDE_PX)
    shutil.copy(FOLDER / "dog.png", cat)
    with pytest.raises(SpriteError, match=r"cat\.png: got SHA-256"):
        read_sprite(cat.parent, "cat")


def test_a_sprite_without_a_pinned_hash_is_refused(cat: Path) -> None:
    """A sprite that is not in the list of hashes is refused, and so is a missing list."""
    shutil.copy(cat, cat.with_name("yeti.png"))
    with pytest.raises(SpriteError, match=r"SHA256SUMS: no SHA-256 of yeti\.png"):
        read_sprite(cat.parent, "yeti")
    other = cat.parent / "other"
    other.mkdir()
    shutil.copy(cat, other / "cat.png")
    with pytest.raises(SpriteError, match=r"other/SHA256SUMS: cannot read"):
        read_sprite(other, "cat")
