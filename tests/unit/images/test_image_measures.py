"""Sharpness, exposure and perceptual hash, measured on the project's own pictures and on changed copies."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.quality.cases.subjects import make_cases
from models.emoji.world import read_world
from tests.tooling.pictures import file_of, halves
from zoodip_core.images import image_warnings
from zoodip_core.images.measures import difference_hash, exposure, sharpness, working_square
from zoodip_core.input_warnings import WarningCode

SPLITS = ("test", "validation")


@cache
def demo_pictures() -> list[Image.Image]:
    """Return the reference images of the demo, 64 px each."""
    folder = files("zoodip_core") / "assets/demo"
    return [
        Image.open(BytesIO((folder / f"reference-{k}.png").read_bytes())).convert("RGB") for k in range(1, 5)
    ]


@cache
def photo() -> Image.Image:
    """Return a detailed picture of 384 px: four demo pictures, each enlarged without smoothing."""
    whole = Image.new("RGB", (384, 384))
    for k, picture in enumerate(demo_pictures()):
        whole.paste(picture.resize((192, 192), Image.Resampling.NEAREST), (192 * (k % 2), 192 * (k // 2)))
    return whole


def blurred(image: Image.Image, share: float) -> Image.Image:
    """Return the image blurred by a Gaussian whose σ is a share of the short side."""
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def exposed(image: Image.Image, stops: float) -> Image.Image:
    """Return the image as a camera would take it with `stops` more exposure."""
    linear = (np.asarray(image) / 255) ** 2.2 * 2.0**stops
    return Image.fromarray(np.clip(255 * linear ** (1 / 2.2), 0, 255).round().astype(np.uint8))


def ramps() -> Image.Image:
    """Return a scene of all brightnesses from 60 to 250 in both directions."""
    ramp = np.linspace(60, 250, 128)
    levels = np.minimum.outer(ramp, ramp[::-1])
    return Image.fromarray(np.repeat(levels[:, :, None], 3, axis=2).astype(np.uint8))


def codes(*images: Image.Image) -> list[WarningCode]:
    """Return the codes of the warnings about images that are used whole."""
    return [warning.code for warning in image_warnings(images, None, cropped=False)]


@pytest.mark.parametrize("kind", ["subjects", "shapes", "styles"])
def test_no_good_picture_is_reported(kind: str) -> None:
    """No reference image of EmojiBooth causes a warning, together with the others of its case."""
    for split in SPLITS:
        for case in make_cases(read_world(), kind, split):
            assert codes(*case.references) == [], case.name


def test_the_demo_is_not_reported() -> None:
    """Nor do the reference images of the demo, at any size to which they are enlarged without smoothing."""
    assert codes(*demo_pictures()) == []
    for side in (128, 512, 1000):
        enlarged = [one.resize((side, side), Image.Resampling.NEAREST) for one in demo_pictures()]
        assert codes(*enlarged) == []


@pytest.mark.parametrize("side", [64, 200, 1024])
@pytest.mark.parametrize("colors", [("black", "white"), ("yellow", "white"), ("#787878", "#a0a0a0")])
def test_flat_drawings_are_not_reported(side: int, colors: tuple[str, str]) -> None:
    """Large areas of one color with few sharp edges are neither blurred nor overexposed nor duplicates."""
    drawings = [Image.new("RGB", (side, side), colors[1]) for _ in range(3)]
    box = [side * share for share in (0.3, 0.2, 0.7, 0.8)]
    ImageDraw.Draw(drawings[0]).ellipse(box, fill=colors[0])
    ImageDraw.Draw(drawings[1]).rectangle(box, fill=colors[0])
    ImageDraw.Draw(drawings[2]).polygon(
        [(side // 2, 5), (side - 9, side - 5), (3, side // 2)], fill=colors[0]
    )
    assert codes(*drawings) == []


def test_sharpness_falls_with_the_blur() -> None:
    """A sweep of the blur radius: the sharpness falls at each step, and the warning starts at 2 % of the side."""
    sweep = [blurred(photo(), share) for share in (0.002, 0.005, 0.01, 0.02)]
    values = [sharpness(working_square(image)) or 0 for image in (photo(), *sweep)]
    assert all(after < before for before, after in pairwise(values))
    assert [codes(image) for image in sweep] == [[], [], [], [WarningCode.IMAGE_BLURRED]]


def test_a_sharp_subject_in_front_of_a_blurred_background_is_not_blurred() -> None:
    """A portrait with a shallow depth of field is a good photo."""
    portrait = blurred(photo(), 0.05)
    portrait.paste(demo_pictures()[0].resize((128, 128), Image.Resampling.NEAREST), (128, 128))
    assert codes(portrait) == []


def test_an_image_without_contrast_has_no_sharpness() -> None:
    """One color has no edge to judge."""
    assert sharpness(Image.new("RGB", (32, 32), "teal")) is None


def test_exposure_of_a_sweep() -> None:
    """Five stops too dark and four too bright are reported; smaller errors are not."""
    scene = ramps()
    found = {stops: exposure(working_square(exposed(scene, stops))) for stops in (-5, -2, -1, 0, 1, 4)}
    assert found == {-5: "under", -2: None, -1: None, 0: None, 1: None, 4: "over"}
    assert codes(exposed(photo(), -5)) == [WarningCode.IMAGE_UNDEREXPOSED]


def test_a_copy_is_similar() -> None:
    """A compressed, smaller or brighter copy of a photo is a near-duplicate; another photo is not."""
    original = photo()
    compressed = Image.open(BytesIO(file_of(original, "JPEG", quality=60)))
    brighter = original.point(lambda level: min(255, round(1.05 * level)))
    for copy in (compressed, original.resize((200, 200)), brighter):
        assert codes(original, copy) == [WarningCode.IMAGES_SIMILAR]
    assert codes(original, original.rotate(180)) == []


def test_an_exact_copy_is_only_identical() -> None:
    """One warning for each copy, with the numbers of both images."""
    found = image_warnings([photo(), demo_pictures()[0], photo()], None)
    assert [warning.message for warning in found] == ["images 1 and 3 are identical"]


def test_an_image_of_few_areas_has_no_hash() -> None:
    """Too few cells differ from their neighbors to compare the image with another one."""
    assert difference_hash(Image.new("RGB", (64, 64), "teal")) is None
    assert difference_hash(halves()) is None


def test_squashing_a_long_image_is_reported() -> None:
    """More than 2:1 is reported where the image is squashed; a crop has its own warning."""
    wide = photo().resize((384, 150))
    (warning,) = image_warnings([wide], None, cropped=False)
    assert warning.code == WarningCode.IMAGE_DISTORTED
    assert warning.message == (
        "image 1 has 384×150 px: squashing it to a square changes its aspect ratio by a factor of 2.6"
    )
    assert [one.code for one in image_warnings([wide], None)] == [WarningCode.IMAGE_CROPPED]
