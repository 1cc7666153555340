"""Composed pictures: reproducible by seed and visually distinct."""

import random

import numpy as np
import pytest

from models.emoji.compose import contact_sheet, draw_scene, scene_caption, scene_of_seed, training_sample
from models.emoji.errors import SpriteError
from models.emoji.sprite_files import sprite
from models.emoji.world import Scene, shipped_world


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A picture depends on its seed only, not on pictures drawn earlier."""
    world = shipped_world()
    first = [training_sample(seed, world) for seed in (3, 4, 5)]
    again = [training_sample(seed, world) for seed in (5, 3)]
    assert first[2].picture.tobytes() == again[0].picture.tobytes()
    assert first[0].picture.tobytes() == again[1].picture.tobytes()
    assert first[0].picture.tobytes() != first[1].picture.tobytes()
    assert first[0].caption == again[1].caption


def test_a_picture_shows_the_scene_of_its_seed() -> None:
    """`scene_of_seed` returns the scene and caption of the composed sample."""
    world = shipped_world()
    for seed in range(20):
        sample = training_sample(seed, world)
        assert (sample.scene, sample.caption) == scene_of_seed(seed, world)
        assert sample.picture.size == (64, 64)


def test_captions_name_every_attribute() -> None:
    """A full caption has pattern, color, object, background and style in this order."""
    scene = Scene("crab", "teal", "striped", "in the snow", ("sepia", ""))
    assert scene_caption(scene) == "a photo of a striped teal crab in the snow in sepia style"


def test_every_background_and_style_is_distinct() -> None:
    """Each background and each style gives a different picture."""
    world = shipped_world()
    scenes = [Scene("cat", "", "", background) for background in world.backgrounds]
    scenes += [Scene("cat", "", "", "on the grass", style) for style in world.styles]
    drawn = [np.asarray(draw_scene(scene, random.Random(1), world), dtype=float) for scene in scenes]
    for index, picture in enumerate(drawn):
        for other in drawn[:index]:
            assert np.abs(picture - other).mean() > 1


def test_colors_change_the_object() -> None:
    """A color changes the middle of the picture, where the object is."""
    world = shipped_world()
    plain, blue = (
        np.asarray(draw_scene(Scene("cat", color, "", "on white"), random.Random(1), world))
        for color in ("", "blue")
    )
    assert blue[32, 32, 2] > blue[32, 32, 0]
    assert plain[32, 32, 0] > plain[32, 32, 2]


def test_a_missing_sprite_is_named() -> None:
    """The message for an object without a sprite has the path and the package."""
    with pytest.raises(SpriteError, match=r"yeti\.png: sprite not found.*fluent-emoji"):
        sprite("yeti")


def test_the_contact_sheet_has_every_sample() -> None:
    """A sheet of 5 samples in 3 columns has 2 rows."""
    world = shipped_world()
    sheet = contact_sheet([training_sample(seed, world) for seed in range(5)], columns=3, zoom=1)
    assert sheet.width == 3 * 68
    assert sheet.height == 2 * (64 + 34)
