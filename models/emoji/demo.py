"""The demo's references: four pictures of one held-out subject, `python -m models.emoji.demo`.

The subject is drawn by a fixed seed, before any result, from the held-out ones that have a pattern too, so that all
three attributes must be learned.
"""

import json
import random
import sys
from functools import partial
from pathlib import Path

from models.emoji.compose import caption, draw_scene, noun_phrase
from models.emoji.errors import EmojiModelError
from models.emoji.train.checkpoint import replace_file
from models.emoji.world import Scene, World, shipped_world

FOLDER = Path(__file__).parents[2] / "zoodip_core" / "assets" / "demo"
FIRST_SEED = 40_000_000  # far from every training seed
REFERENCE_GROUNDS = ("in the snow", "on the grass", "on white", "by a brick wall")
PROMPT_GROUNDS = ("on the beach", "on teal", "in the night", "on the wood")


def write_demo(folder: Path, world: World) -> None:
    """Reference pictures and `demo.json` in `folder`."""
    patterned = [subject for subject in world.held_out.subjects if subject[2]]
    thing, tint, pattern = random.Random("demo").choice(patterned)
    scenes = [Scene(thing, tint, pattern, ground) for ground in REFERENCE_GROUNDS]
    for index, scene in enumerate(scenes):
        picture = draw_scene(scene, random.Random(FIRST_SEED + index), world)
        replace_file(folder / f"reference-{index + 1}.png", partial(picture.save, format="PNG"))
    demo = {
        "initializer": thing,
        "caption": caption(noun_phrase(scenes[0]), ""),
        "captions": [caption("{}", scene.ground) for scene in scenes],
        "prompts": [caption("{}", ground) for ground in PROMPT_GROUNDS],
    }
    text = json.dumps(demo, indent=2) + "\n"
    replace_file(folder / "demo.json", lambda half: half.write_bytes(text.encode()))


if __name__ == "__main__":
    try:
        write_demo(FOLDER, shipped_world())
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"references in {FOLDER}\n")
