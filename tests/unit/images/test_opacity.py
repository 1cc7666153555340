"""The opacity of transparent images is kept with the flattened colors, and causes warnings."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.tooling.pictures import file_of, halves
from zoodip_core.errors import InvalidImageError
from zoodip_core.images import (
    Crop,
    decode_image,
    decode_image_file,
    decode_stored_image,
    encode_png,
    image_facts,
    image_warnings,
    without_opacity,
)


def _cutout(width: int = 64, height: int = 48) -> Image.Image:
    """Return `halves` with a half-transparent red half and a fully transparent corner at the top right."""
    image = halves(width, height).convert("RGBA")
    opacity = Image.new("L", image.size, 255)
    opacity.paste(102, (0, 0, width // 2, height))
    opacity.paste(0, (width - 8, 0, width, 8))
    image.putalpha(opacity)
    return image


def _codes(*images: Image.Image, masked: bool, cropped: bool = True) -> list[str]:
    return [found.code for found in image_warnings(images, None, cropped=cropped, masked=masked)]


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {})])
def test_the_opacity_is_kept(form: str, options: dict[str, object]) -> None:
    """The colors are those of the flattened image; the alpha is that of the file."""
    data = file_of(_cutout(), form, **options)
    image, _ = decode_image_file(data, name="a")
    assert image.mode == "RGBA"
    assert without_opacity(image).tobytes() == decode_image(data, name="a").tobytes()
    levels = [image.getchannel("A").getpixel(at) for at in ((8, 24), (40, 24), (60, 3))]
    assert levels == pytest.approx([102, 255, 0], abs=0 if form != "AVIF" else 3)


def test_the_opacity_is_cropped_turned_and_reduced_like_the_colors() -> None:
    """A mask that equals the green corner still does after EXIF rotation, a crop and a reduction."""
    image = halves(2_400, 1_800)
    opacity = image.getchannel("G").point(lambda level: level or 10)  # 255 in the corner
    image.putalpha(opacity)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    found, _ = decode_image_file(file_of(image, exif=exif), name="a", crop=Crop(600, 0, 1_200))
    assert found.size == (1_024, 1_024)
    levels = [[found.getpixel((x, y)) for x in (4, 1_019)] for y in (4, 400, 1_019)]
    assert [[level[3] for level in row] for row in levels] == [[10, 255], [10, 255], [10, 10]]
    assert levels[0][1] == (0, 255, 0, 255)


def test_an_opaque_alpha_is_dropped() -> None:
    """An RGBA file without transparent pixels is an RGB image."""
    image, _ = decode_image_file(file_of(halves().convert("RGBA")), name="a")
    assert image.mode == "RGB"


def test_a_stored_image_is_not_flattened_again() -> None:
    """The PNG keeps colors and opacity, and reading it changes neither; an RGB image stays RGB."""
    for source in (_cutout(), halves()):
        image, _ = decode_image_file(file_of(source), name="a")
        stored = decode_stored_image(encode_png(image), name="a")
        assert (stored.mode, stored.tobytes()) == (image.mode, image.tobytes())
    with pytest.raises(InvalidImageError, match=r"'a' \(a truncated or damaged file\)"):
        decode_stored_image(encode_png(halves())[:-40], name="a")


def test_transparency_is_reported_unless_it_is_used() -> None:
    """The warning has the share of the used part; a mask that would change nothing is reported instead."""
    cutout, _ = decode_image_file(file_of(_cutout(64, 64)), name="a")
    (found,) = image_warnings([halves(64, 64), cutout], None)
    assert found.message == (
        "image 2: 32% of it is transparent and becomes white; masked_loss leaves these parts out of the loss"
    )
    assert _codes(halves(64, 64), cutout, masked=True) == []
    assert _codes(halves(64, 64), masked=True) == ["no_mask"]


def test_only_the_used_part_counts() -> None:
    """Transparent borders that the center square leaves out matter only if the image is squashed."""
    image = halves(96, 64).convert("RGBA")
    image.putalpha(Image.new("L", (64, 64), 255).crop((-16, 0, 80, 64)))
    facts = image_facts(image)
    assert (facts.square_opacity, round(facts.opacity, 3)) == (1, 0.667)
    assert _codes(image, masked=False) == ["image_cropped"]
    assert _codes(image, masked=True) == ["image_cropped", "no_mask"]
    assert _codes(image, masked=False, cropped=False) == ["image_transparent"]
