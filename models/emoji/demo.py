"""Write the demo's reference images: four pictures of one held-out subject.

A fixed seed chooses the subject among the held-out ones with a pattern, so that a concept must learn object, color
and pattern.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from models.emoji.compose import caption, draw_scene, noun_phrase
from models.emoji.errors import EmojiModelError
from models.emoji.world import Scene, World, shipped_world
from zoodip_core.errors import StorageError
from zoodip_core.files import write_atomically
from zoodip_core.images import encode_png

FOLDER = Path(__file__).parents[2] / "zoodip_core" / "assets" / "demo"
FIRST_SEED = 40_000_000  # far from every training seed
REFERENCE_BACKGROUNDS = ("in the snow", "on the grass", "on white", "by a brick wall")
PROMPT_BACKGROUNDS = ("on the beach", "on teal", "in the night", "on the wood")


def write_demo(folder: Path, world: World) -> None:
    """Write the reference images and `demo.json` to `folder`.

    Raises:
        StorageError: a file cannot be written.
    """
    patterned = [one for one in world.held_out.subjects if one[2]]
    subject = random.Random("demo").choice(patterned)
    scenes = [Scene(*subject, background) for background in REFERENCE_BACKGROUNDS]
    for index, scene in enumerate(scenes):
        picture = draw_scene(scene, random.Random(FIRST_SEED + index), world)
        write_atomically(folder / f"reference-{index + 1}.png", encode_png(picture))
    demo = {
        "initializer": subject[0],
        "caption": caption(noun_phrase(scenes[0]), ""),
        "captions": [caption("{}", scene.background) for scene in scenes],
        "prompts": [caption("{}", background) for background in PROMPT_BACKGROUNDS],
    }
    text = json.dumps(demo, indent=2) + "\n"
    write_atomically(folder / "demo.json", text.encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.emoji.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        write_demo(options.out, shipped_world())
    except (EmojiModelError, StorageError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"references in {options.out}\n")


if __name__ == "__main__":
    main()
