"""Read and unpack the sprites: committed PNGs from a pinned npm package.

`python -m models.emoji.sprite_files fluent-emoji-3d-1.1.0.tgz` unpacks them again. Composing pictures uses the
committed files, needs no npm, and checks each file against `sprites/SHA256SUMS`.
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
def sprite(name: str) -> Image.Image:
    """Return the committed RGBA sprite of an object, `SIDE_PX` wide and high.

    Raises:
        SpriteError: the sprite is missing or was altered.
    """
    return read_sprite(FOLDER, name)


def read_sprite(folder: Path, name: str) -> Image.Image:
    """Return the RGBA sprite of an object after checking its hash.

    Raises:
        SpriteError: the sprite is missing, has no pinned hash, or has another hash.
    """
    path = folder / f"{name}.png"
    if not path.exists():
        raise SpriteError(f"{path}: sprite not found; unpack {PACKAGE} (`npm pack`) again")
    data, expected = path.read_bytes(), read_hashes(folder).get(path.name)
    if expected is None:
        raise SpriteError(f"{folder / SUMS}: no SHA-256 of {path.name}; unpack {PACKAGE} (`npm pack`) again")
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SpriteError(f"{path}: got SHA-256 {found}; expected {expected}")
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGBA")


@cache
def read_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every sprite of a folder by file name. `sha256sum --check` can read the same file.

    Raises:
        SpriteError: the file is missing or malformed.
    """
    path = folder / SUMS
    try:
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in lines}
    except (OSError, ValueError) as broken:
        raise SpriteError(f"{path}: cannot read the sprites' hashes: {broken}") from broken


def unpack(package: Path, folder: Path, world: World) -> int:
    """Write one PNG per object and the list of hashes; return the number of sprites.

    Raises:
        SpriteError: the package is missing, is not the pinned one, or has no sprite for an object. No file is
            written.
        StorageError: a file cannot be written.
    """
    if not package.is_file():
        raise SpriteError(f"{package}: sprite package not found; get it with `npm pack {PACKAGE}`")
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SpriteError(f"{package}: got SHA-256 {found}; expected {PACKAGE_SHA256} ({PACKAGE})")
    with tarfile.open(package) as archive:
        drawn = {f"{name}.png": _png(archive, name, code) for name, code in world.sprites.items()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(drawn.items()))
    for name, data in (drawn | {SUMS: sums.encode()}).items():
        write_atomically(folder / name, data)
    return len(drawn)


def _png(archive: tarfile.TarFile, name: str, code: str) -> bytes:
    """Return the PNG of a code point, scaled to `SIDE_PX`.

    Raises:
        SpriteError: the package does not contain it.
    """
    try:
        member = archive.extractfile(f"package/assets/{code}.webp")
    except KeyError as missing:
        raise SpriteError(f"{PACKAGE}: no sprite {code} for {name!r}") from missing
    if member is None:
        raise SpriteError(f"{PACKAGE}: the sprite {code} for {name!r} is not a file")
    png = io.BytesIO()
    with Image.open(io.BytesIO(member.read())) as picture:
        small = picture.convert("RGBA").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    small.save(png, "PNG", optimize=True)
    return png.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.sprite_files", description=__doc__)
    parser.add_argument("package", type=Path, help=f"the file from `npm pack {PACKAGE}`")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        written = unpack(options.package, options.out, shipped_world())
    except (EmojiModelError, StorageError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{written} sprites in {options.out}\n")


if __name__ == "__main__":
    main()
