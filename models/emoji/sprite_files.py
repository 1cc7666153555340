"""The sprites: committed PNGs, unpacked once from a pinned npm package.

`python -m models.emoji.sprite_files fluent-emoji-3d-1.1.0.tgz` writes them anew; the composer reads the committed
ones, so a bare machine needs no npm, and refuses one whose bytes are not those of `sprites/SHA256SUMS`.
"""

import argparse
import hashlib
import io
import sys
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from models.emoji.errors import EmojiModelError, SpriteError
from models.emoji.world import World, shipped_world
from zoodip_core.errors import StorageError
from zoodip_core.files import write_atomically

FOLDER = Path(__file__).parent / "sprites"
PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
PACKAGE_SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
SIDE_PX = 128
SUMS = "SHA256SUMS"


@cache
def sprite(thing: str) -> Image.Image:
    """The committed RGBA sprite of a thing, `SIDE_PX` wide and high.

    Raises:
        SpriteError: there is no committed sprite of this name, or it was altered.
    """
    return read_sprite(FOLDER, thing)


def read_sprite(folder: Path, thing: str) -> Image.Image:
    """The RGBA sprite of a thing, the same bytes that were unpacked.

    Raises:
        SpriteError: the folder has none of this name, or not those bytes.
    """
    path = folder / f"{thing}.png"
    if not path.exists():
        raise SpriteError(f"there is no sprite of {thing!r} in {folder}: unpack {PACKAGE} (`npm pack`) again")
    data, expected = path.read_bytes(), pinned(folder).get(path.name)
    if expected is None:
        raise SpriteError(
            f"{folder / SUMS} has no SHA-256 of {path.name}: unpack {PACKAGE} (`npm pack`) again"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SpriteError(f"{path} was altered or cut short: its SHA-256 is {found}, expected {expected}")
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGBA")


@cache
def pinned(folder: Path) -> dict[str, str]:
    """The SHA-256 of every sprite of a folder, by file name; `sha256sum --check` reads the file too.

    Raises:
        SpriteError: the list is missing or broken.
    """
    path = folder / SUMS
    try:
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in lines}
    except (OSError, ValueError) as broken:
        raise SpriteError(
            f"the list of the sprites' hashes {path} is missing or broken: {broken}"
        ) from broken


def unpack(package: Path, folder: Path, world: World) -> int:
    """The number of sprites written to `folder`, one PNG a thing, with the list of their hashes.

    Raises:
        SpriteError: the package is missing, is not the pinned one, or lacks a sprite; nothing is written.
        StorageError: a file could not be written.
    """
    if not package.is_file():
        raise SpriteError(f"there is no sprite package {package}; get it with `npm pack {PACKAGE}`")
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SpriteError(f"{package} is not {PACKAGE}: its SHA-256 is {found}, expected {PACKAGE_SHA256}")
    with tarfile.open(package) as archive:
        drawn = {f"{thing}.png": _png(archive, thing, code) for thing, code in world.sprites.items()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(drawn.items()))
    for name, data in (drawn | {SUMS: sums.encode()}).items():
        write_atomically(folder / name, data)
    return len(drawn)


def _png(archive: tarfile.TarFile, thing: str, code: str) -> bytes:
    """The sprite of a code point, made small.

    Raises:
        SpriteError: the package lacks it.
    """
    try:
        member = archive.extractfile(f"package/assets/{code}.webp")
    except KeyError as missing:
        raise SpriteError(f"{PACKAGE} has no sprite {code} for {thing!r}") from missing
    if member is None:
        raise SpriteError(f"the sprite {code} of {thing!r} in {PACKAGE} is not a file")
    png = io.BytesIO()
    with Image.open(io.BytesIO(member.read())) as picture:
        small = picture.convert("RGBA").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    small.save(png, "PNG", optimize=True)
    return png.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.sprite_files", description=__doc__)
    parser.add_argument("package", type=Path, help=f"the file that `npm pack {PACKAGE}` gave")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder that is written to")
    options = parser.parse_args(arguments)
    try:
        written = unpack(options.package, options.out, shipped_world())
    except (EmojiModelError, StorageError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{written} sprites in {options.out}\n")


if __name__ == "__main__":
    main()
