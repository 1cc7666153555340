"""Warnings about usable images: small, far from square, nearly one color, duplicates."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.tooling.pictures import RED, file_of, halves
from zoodip_core.images import Crop, decode_image, image_warnings
from zoodip_core.input_warnings import WarningCode


def _codes(image: Image.Image) -> list[WarningCode]:
    return [warning.code for warning in image_warnings([image], 16)]


def test_warnings_name_the_image() -> None:
    """Small, elongated and duplicate images cause a warning; good images do not."""
    good = halves(64, 48)
    assert image_warnings([good], 48) == []
    small, long = halves(40, 40), halves(200, 100)
    assert [warning.message for warning in image_warnings([good, small, long, good], 48)] == [
        "image 2 has 40×40 px: it is enlarged to the 48 px of the base model's training images",
        "image 3: only its center square is used, 50% is cut off",
        "images 1 and 4 are identical",
    ]


@pytest.mark.parametrize(
    ("size", "is_cropped"), [((150, 100), True), ((100, 150), True), ((149, 100), False), ((133, 100), False)]
)
def test_a_third_of_the_picture_is_the_limit(size: tuple[int, int], is_cropped: bool) -> None:
    """A crop that loses a third of the picture is reported; one that loses less is not."""
    assert (WarningCode.IMAGE_CROPPED in _codes(halves(*size))) is is_cropped


def test_nothing_is_cut_off_a_squashed_image() -> None:
    """An image that is used whole is not reported as cropped."""
    assert image_warnings([halves(200, 100)], 16, cropped=False) == []


def test_a_subject_outside_the_square_is_reported() -> None:
    """The square has one color; the message names it."""
    image = Image.new("RGB", (160, 90), (240, 240, 240))
    image.paste(RED, (0, 0, 20, 90))
    crop, uniform = image_warnings([image], 64)
    assert (crop.code, uniform.code) == (WarningCode.IMAGE_CROPPED, WarningCode.IMAGE_UNIFORM)
    assert uniform.message == (
        "image 1: its center square has nearly one color, #f0f0f0; choose a square around the subject"
    )


def test_warnings_about_a_chosen_square_say_so() -> None:
    """The size is that of the square, and nothing is reported as cut off: the user chose what to leave out."""
    squares = [halves(40, 40), Image.new("RGB", (64, 64), (240, 240, 240)), halves(64, 64)]
    crops = [Crop(0, 0, 40), Crop(8, 0, 64), None]
    assert [warning.message for warning in image_warnings(squares, 48, crops=crops)] == [
        "image 1: its chosen square has 40×40 px: it is enlarged to the 48 px of the base model's training images",
        "image 2: its chosen square has nearly one color, #f0f0f0; choose a square around the subject",
    ]


def test_images_without_content_are_reported() -> None:
    """White on transparent, a blank first frame, and a wall with the noise of a camera have nearly one color."""
    white = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    white.paste((255, 255, 255, 255), (16, 16, 48, 48))
    blank = Image.new("RGB", (64, 64), "black")
    frames = file_of(blank, "WEBP", save_all=True, append_images=[halves(64, 64)])
    noise = np.random.default_rng(0).normal(128, 4, (256, 256, 3)).astype(np.uint8)
    for image in (
        decode_image(file_of(white), name="a"),
        decode_image(frames, name="a"),
        Image.fromarray(noise),
    ):
        assert _codes(image) == [WarningCode.IMAGE_UNIFORM]


def test_a_small_or_faint_subject_is_no_plain_image() -> None:
    """A subject on one percent of the square, and one that differs little from the ground, are seen."""
    small = Image.new("RGB", (200, 200), "white")
    small.paste("black", (90, 90, 110, 110))
    faint = Image.new("RGB", (200, 200), (250, 250, 250))
    faint.paste((240, 240, 240), (50, 50, 150, 150))
    assert _codes(small) == []
    assert _codes(faint) == []


def test_warnings_keep_one_image_in_memory() -> None:
    """Each image is freed before the next is created, so 16 photos take the memory of one."""
    created: list[weakref.ref[Image.Image]] = []

    def images() -> Iterator[Image.Image]:
        for _ in range(3):
            assert [reference() for reference in created] == [None] * len(created)
            image = halves()
            created.append(weakref.ref(image))
            yield image
            del image

    assert [warning.message for warning in image_warnings(images(), None)] == [
        "images 1 and 2 are identical",
        "images 1 and 3 are identical",
    ]
