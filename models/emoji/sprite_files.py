"""The sprites: committed PNGs, unpacked once from a pinned npm package.

`python -m models.emoji.sprite_files fluent-emoji-3d-1.1.0.tgz` writes them anew; the composer reads the committed
ones, so a bare machine needs no npm.
"""

import hashlib
import io
import sys
import tarfile
from functools import cache
from pathlib import Path

from PIL import Image

from models.emoji.errors import EmojiModelError, SpriteError
from models.emoji.world import World, shipped_world

FOLDER = Path(__file__).parent / "sprites"
PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
PACKAGE_SHA256 = "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
SIDE_PX = 128


@cache
def sprite(thing: str) -> Image.Image:
    """The RGBA sprite of a thing, `SIDE_PX` wide and high.

    Raises:
        SpriteError: there is no committed sprite of this name.
    """
    path = FOLDER / f"{thing}.png"
    if not path.exists():
        raise SpriteError(f"there is no sprite of {thing!r} in {FOLDER}: unpack {PACKAGE} (`npm pack`) again")
    with Image.open(path) as picture:
        return picture.convert("RGBA")


def unpack(package: Path, folder: Path, world: World) -> int:
    """The number of sprites written to `folder`, one PNG a thing.

    Raises:
        SpriteError: the package is missing, is not the pinned one, or lacks a sprite.
    """
    if not package.is_file():
        raise SpriteError(f"there is no sprite package {package}; get it with `npm pack {PACKAGE}`")
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SpriteError(f"{package} is not {PACKAGE}: its SHA-256 is {found}, expected {PACKAGE_SHA256}")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(package) as archive:
        for thing, code in world.sprites.items():
            try:
                member = archive.extractfile(f"package/assets/{code}.webp")
            except KeyError as missing:
                raise SpriteError(f"{PACKAGE} has no sprite {code} for {thing!r}") from missing
            if member is None:
                raise SpriteError(f"the sprite {code} of {thing!r} in {PACKAGE} is not a file")
            with Image.open(io.BytesIO(member.read())) as picture:
                small = picture.convert("RGBA").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
            small.save(folder / f"{thing}.png", optimize=True)
    return len(world.sprites)


if __name__ == "__main__":
    try:
        written = unpack(Path(sys.argv[1] if len(sys.argv) > 1 else ""), FOLDER, shipped_world())
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{written} sprites in {FOLDER}\n")
