"""Compose scenes into pictures with captions. The same seed gives the same bytes.

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
CAPTION_WORDS = 14  # 16 tokens minus the begin and end tokens
NAMED_INSTANCE_SHARE = 0.33
STYLE_SHARE = 0.1
COLOR_SHARE = 0.6
PATTERN_SHARE = 0.3
FULL_CAPTION_SHARE = 0.75


@dataclass(frozen=True)
class Sample:
    """A picture with its scene and caption."""

    picture: Image.Image
    scene: Scene
    caption: str


def caption(noun: str, background: str, style: str = "") -> str:
    """Return the caption of a noun phrase on a background, in a style.

    Args:
        noun: the object with its attributes, an invented word, or "{}".
        background: in words.
        style: the filters in words, or an invented word.
    """
    return " ".join(
        part for part in ("a photo of a", noun, background, f"in {style} style" if style else "") if part
    )


def noun_phrase(scene: Scene) -> str:
    """Return the object with its attributes, such as "striped teal crab"."""
    return " ".join(part for part in (scene.pattern, scene.color, scene.object) if part)


def style_words(style: Style) -> str:
    """Return a style in words, such as "sepia pixelated"."""
    return " ".join(name for name in style if name)


def scene_caption(scene: Scene) -> str:
    """Return the full caption of a scene."""
    return caption(noun_phrase(scene), scene.background, style_words(scene.style))


def _recolored(sprite: Image.Image, color: Color) -> Image.Image:
    """Return the sprite recolored by its luminance, which keeps the shading."""
    light = ImageOps.autocontrast(sprite.convert("RGB").convert("L"), 2)
    dark = tuple(level // 5 for level in color)
    bright = tuple(min(255, level + 110) for level in color)
    painted = ImageOps.colorize(light, dark, bright, mid=color).convert("RGBA")
    painted.putalpha(sprite.getchannel("A"))
    return painted


def draw_scene(scene: Scene, rng: random.Random, world: World) -> Image.Image:
    """Draw the scene as an RGB picture; `rng` mirrors, rotates and shifts the object."""
    figure = _figure(scene, rng, world)
    picture = paint_background(world.plain_backgrounds, scene.background, rng, PICTURE_PX)
    figure, corner = _placed(figure, rng)
    picture.paste(figure, corner, figure)
    return apply_style(picture, scene.style)


def draw_cutout(scene: Scene, rng: random.Random, world: World) -> Image.Image:
    """Draw the object of a scene as an RGBA picture without background or style, placed as in `draw_scene`."""
    picture = Image.new("RGBA", (PICTURE_PX, PICTURE_PX))
    picture.paste(*_placed(_figure(scene, rng, world), rng))
    return picture


def _figure(scene: Scene, rng: random.Random, world: World) -> Image.Image:
    """Return the sprite of a scene with its color and pattern, mirrored at random."""
    figure = sprite(scene.object)
    if scene.color:
        figure = _recolored(figure, jittered(world.colors[scene.color], rng))
    if scene.pattern:
        figure = apply_pattern(figure, scene.pattern)
    return ImageOps.mirror(figure) if rng.random() < 0.5 else figure


def _placed(figure: Image.Image, rng: random.Random) -> tuple[Image.Image, tuple[int, int]]:
    """Return the figure at a random size and angle, and its left and top edge in the picture."""
    side = rng.randint(42, 54)
    placed = figure.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC).resize(
        (side, side), Image.Resampling.LANCZOS
    )
    middle = (PICTURE_PX - side) // 2
    return placed, (middle + rng.randint(-4, 4), middle + rng.randint(-3, 5))


def _sample_style(rng: random.Random, world: World) -> tuple[Style, str]:
    """Sample a style and its words: one filter, a pair in words, or the invented word of a pair."""
    if rng.random() >= STYLE_SHARE:
        return (PLAIN, PLAIN), ""
    if rng.random() < 0.35:
        word = rng.choice(list(world.named_styles))
        return world.named_styles[word], word
    single = rng.random() < 0.65
    style = rng.choice([one for one in world.trained_styles if (PLAIN in one) == single])
    return style, style_words(style)


def _sample_object(rng: random.Random, world: World) -> tuple[str, str, str]:
    """Sample an object with a color and a pattern that may be used in training."""
    while True:
        name = rng.choice(world.trained_objects)
        color = rng.choice(list(world.colors)) if rng.random() < COLOR_SHARE else PLAIN
        pattern = rng.choice(world.patterns) if rng.random() < PATTERN_SHARE else PLAIN
        if (name, color) not in world.held_out.colored_objects:
            return name, color, pattern


def scene_of_seed(seed: int, world: World) -> tuple[Scene, str]:
    """Return the scene and caption of `training_sample` without drawing the picture.

    Raises:
        LeakError: the scene contains a held-out item.
    """
    return sample_scene(random.Random(seed), world)


def sample_scene(rng: random.Random, world: World) -> tuple[Scene, str]:
    """Sample a training scene and its caption.

    Raises:
        LeakError: the scene contains a held-out item.
    """
    background = rng.choice(world.backgrounds)
    style, words = _sample_style(rng, world)
    if rng.random() < NAMED_INSTANCE_SHARE:
        noun = rng.choice(list(world.named_instances))
        scene = Scene(*world.named_instances[noun], background, style)
    else:
        scene = Scene(*_sample_object(rng, world), background, style)
        noun = noun_phrase(scene) if rng.random() < FULL_CAPTION_SHARE else scene.object
    world.held_out.check(scene)
    text = caption(noun, background, words)
    if len(text.split()) > CAPTION_WORDS:  # drop color and pattern
        text = caption(scene.object, background, words)
    return scene, text


def training_sample(seed: int, world: World) -> Sample:
    """Return the training picture of a seed, with its scene and caption.

    Raises:
        LeakError: the scene contains a held-out item.
    """
    scene, text = scene_of_seed(seed, world)
    return Sample(draw_scene(scene, random.Random(seed ^ 0x5EED_0000_0000), world), scene, text)


def contact_sheet(samples: list[Sample], columns: int, zoom: int = 2) -> Image.Image:
    """Draw the samples as a grid with captions below the pictures."""
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
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--first", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--count", type=int, default=96, help="number of pictures")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count: got {options.count}; expected a whole number of at least 1")
    seeds = range(options.first, options.first + options.count)
    try:
        sheet = contact_sheet([training_sample(seed, shipped_world()) for seed in seeds], columns=12)
        write_atomically(options.out, encode_png(sheet))
    except (EmojiModelError, StorageError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
