"""Scenes as pictures with captions: one seed a picture, the same seed the same bytes.

`python -m models.emoji.compose sheet.png --first 0` draws a contact sheet.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from models.emoji.errors import EmojiModelError
from models.emoji.painters import Color, Style, apply_pattern, apply_style, jittered, paint_background
from models.emoji.sprite_files import sprite
from models.emoji.world import PLAIN, Scene, World, shipped_world
from zoodip_core.errors import StorageError
from zoodip_core.files import write_atomically
from zoodip_core.images import encode_png

PICTURE_PX = 64
CAPTION_WORDS = 14  # 16 tokens less the begin and end tokens
INDIVIDUALS_SHARE = 0.33
STYLE_SHARE = 0.1
TINT_SHARE = 0.6
PATTERN_SHARE = 0.3
FULL_CAPTION_SHARE = 0.75


@dataclass(frozen=True)
class Sample:
    """A picture, what it shows, and its caption."""

    picture: Image.Image
    scene: Scene
    caption: str


def caption(noun: str, ground: str, style: str = "") -> str:
    """The caption of a noun phrase ("striped teal crab", an invented word, "{}") on a ground, in a style's words."""
    return " ".join(
        part for part in ("a photo of a", noun, ground, f"in {style} style" if style else "") if part
    )


def noun_phrase(scene: Scene) -> str:
    """The thing with its attributes: "striped teal crab"."""
    return " ".join(part for part in (scene.pattern, scene.tint, scene.thing) if part)


def style_words(style: Style) -> str:
    """A style in the words of its looks: "sepia pixelated"."""
    return " ".join(look for look in style if look)


def scene_caption(scene: Scene) -> str:
    """The full caption of a scene."""
    return caption(noun_phrase(scene), scene.ground, style_words(scene.style))


def _tinted(picture: Image.Image, colour: Color) -> Image.Image:
    """The sprite recoloured by its luminance, so that shading stays."""
    light = ImageOps.autocontrast(picture.convert("RGB").convert("L"), 2)
    dark = tuple(level // 5 for level in colour)
    bright = tuple(min(255, level + 110) for level in colour)
    painted = ImageOps.colorize(light, dark, bright, mid=colour).convert("RGBA")
    painted.putalpha(picture.getchannel("A"))
    return painted


def draw_scene(scene: Scene, rng: random.Random, world: World) -> Image.Image:
    """The scene as an RGB picture, mirrored, turned and placed a little by `rng`."""
    thing = sprite(scene.thing)
    if scene.tint:
        thing = _tinted(thing, jittered(world.tints[scene.tint], rng))
    if scene.pattern:
        thing = apply_pattern(thing, scene.pattern)
    if rng.random() < 0.5:
        thing = ImageOps.mirror(thing)
    picture = paint_background(world.plain_grounds, scene.ground, rng, PICTURE_PX)
    side = rng.randint(42, 54)
    thing = thing.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC).resize(
        (side, side), Image.Resampling.LANCZOS
    )
    middle = (PICTURE_PX - side) // 2
    picture.paste(thing, (middle + rng.randint(-4, 4), middle + rng.randint(-3, 5)), thing)
    return apply_style(picture, scene.style)


def _sampled_style(rng: random.Random, world: World) -> tuple[Style, str]:
    """A style and its words: one look, a pair in words, or a pair's invented word."""
    if rng.random() >= STYLE_SHARE:
        return (PLAIN, PLAIN), ""
    if rng.random() < 0.35:
        word = rng.choice(list(world.named_styles))
        return world.named_styles[word], word
    single = rng.random() < 0.65
    style = rng.choice([one for one in world.trained_styles if (PLAIN in one) == single])
    return style, style_words(style)


def _sampled_thing(rng: random.Random, world: World) -> tuple[str, str, str]:
    """A thing with tint and pattern that may be trained on."""
    while True:
        thing = rng.choice(world.trained_things)
        tint = rng.choice(list(world.tints)) if rng.random() < TINT_SHARE else PLAIN
        pattern = rng.choice(world.patterns) if rng.random() < PATTERN_SHARE else PLAIN
        if (thing, tint) not in world.held_out.tinted_things:
            return thing, tint, pattern


def sampled_scene(seed: int, world: World) -> tuple[Scene, str]:
    """A training scene and its caption; half of what `training_sample` draws, and quick.

    Raises:
        LeakError: the scene holds something held out (the lists are wrong).
    """
    return drawn_scene(random.Random(seed), world)


def drawn_scene(rng: random.Random, world: World) -> tuple[Scene, str]:
    """A training scene and its caption, by one generator's draws.

    Raises:
        LeakError: the scene holds something held out (the lists are wrong).
    """
    ground = rng.choice(world.grounds)
    style, words = _sampled_style(rng, world)
    if rng.random() < INDIVIDUALS_SHARE:
        noun = rng.choice(list(world.individuals))
        scene = Scene(*world.individuals[noun], ground, style)
    else:
        scene = Scene(*_sampled_thing(rng, world), ground, style)
        noun = noun_phrase(scene) if rng.random() < FULL_CAPTION_SHARE else scene.thing
    world.held_out.check(scene)
    text = caption(noun, ground, words)
    if (
        len(text.split()) > CAPTION_WORDS
    ):  # a pair of looks beside every other word is too long: say the bare noun
        text = caption(scene.thing, ground, words)
    return scene, text


def training_sample(seed: int, world: World) -> Sample:
    """The training picture of a seed, with its caption.

    Raises:
        LeakError: the scene holds something held out (the lists are wrong).
    """
    scene, text = sampled_scene(seed, world)
    return Sample(draw_scene(scene, random.Random(seed ^ 0x5EED_0000_0000), world), scene, text)


def contact_sheet(samples: list[Sample], columns: int, zoom: int = 2) -> Image.Image:
    """The samples side by side with their captions below."""
    side, text_px = PICTURE_PX * zoom, 34
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + text_px)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for index, sample in enumerate(samples):
        left, top = index % columns * (side + 4), index // columns * (side + text_px)
        sheet.paste(sample.picture.resize((side, side), Image.Resampling.NEAREST), (left, top))
        words = sample.caption.removeprefix("a photo of a ").split()
        lines = [" ".join(words[:3]), " ".join(words[3:6]), " ".join(words[6:])]
        draw.multiline_text((left + 2, top + side), "\n".join(lines), fill=(0, 0, 0), spacing=0, font_size=10)
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.emoji.compose", description="Draw a contact sheet of training pictures."
    )
    parser.add_argument("out", type=Path, help="the PNG that is written")
    parser.add_argument("--first", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--count", type=int, default=96, help="how many pictures, from 1 on")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count {options.count}; allowed: whole numbers from 1 on")
    seeds = range(options.first, options.first + options.count)
    try:
        sheet = contact_sheet([training_sample(seed, shipped_world()) for seed in seeds], columns=12)
        write_atomically(options.out, encode_png(sheet))
    except (EmojiModelError, StorageError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
