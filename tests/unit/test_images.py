"""Decoding of images to upright sRGB without metadata, and warnings about usable images."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from tests.tooling.pictures import BLUE, RED, display_p3, file_of, halves
from zoodip_core.images import decode_image, encode_png, fit_square, image_warnings


@pytest.mark.parametrize(("image_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_pixel(image_format: str, options: dict[str, Any]) -> None:
    """PNG and lossless WebP decode to the original pixels."""
    image = decode_image(file_of(halves(), image_format, **options), name="a")
    assert image.mode == "RGB"
    assert image.tobytes() == halves().tobytes()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    """An image is upright after decoding, for each of the eight orientations."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation → transpose of the stored image
    upright = halves()
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 95, "subsampling": 0} if image_format == "JPEG" else {"lossless": True}
    image = decode_image(file_of(stored, image_format, exif=exif, **options), name="a")
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(upright).astype(int))
    assert image.size == upright.size
    assert difference.mean() < 4


def test_unreadable_exif_is_ignored() -> None:
    """A photo with broken EXIF is decoded without rotation."""
    data = file_of(halves(), "PNG", exif=b"Exif\0\0XX*\0 not a TIFF header")
    assert decode_image(data, name="a").tobytes() == halves().tobytes()


def test_transparency_is_flattened_on_white() -> None:
    """RGBA, LA and a palette with a transparent entry are composited on white."""
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert decode_image(file_of(clear), name="a").getpixel((5, 5)) == (255, 255, 255)
    half = Image.new("LA", (40, 40), (0, 128))
    assert decode_image(file_of(half), name="a").getpixel((5, 5)) == (127, 127, 127)
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    data = file_of(palette, transparency=1)
    assert decode_image(data, name="a").getpixel((5, 5)) == (255, 255, 255)


def test_every_mode_is_converted_to_rgb() -> None:
    """Palette, black-and-white, gray and CMYK images are converted."""
    palette = halves().quantize(8)
    assert decode_image(file_of(palette), name="a").getpixel((60, 40)) == BLUE
    assert decode_image(file_of(Image.new("1", (40, 40), 1)), name="a").getpixel((0, 0)) == (255,) * 3
    assert decode_image(file_of(Image.new("L", (40, 40), 77)), name="a").getpixel((0, 0)) == (77,) * 3
    cmyk = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    red, green, blue = np.asarray(decode_image(file_of(cmyk, "JPEG"), name="a"))[20, 20]
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


def test_16_bit_images_are_scaled_and_not_clipped() -> None:
    """Medium gray in 16 bits is medium gray in 8 bits."""
    gray = Image.fromarray(np.full((40, 40), 0x8000, dtype=np.uint16))
    assert decode_image(file_of(gray), name="a").getpixel((0, 0)) == (128, 128, 128)


def test_an_animated_file_decodes_to_its_first_frame() -> None:
    """The other frames of an animated WebP or PNG are dropped."""
    frames = [Image.new("RGB", (40, 40), color) for color in (RED, BLUE)]
    for image_format in ("PNG", "WEBP"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = file_of(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
        with Image.open(BytesIO(data)) as animated:
            assert getattr(animated, "n_frames", 1) == 2
        assert decode_image(data, name="a").getpixel((5, 5)) == RED


def test_colors_are_converted_to_srgb() -> None:
    """The embedded profile is applied to opaque, transparent and gray images."""
    profile = display_p3()
    image = decode_image(file_of(halves(), icc_profile=profile), name="a")
    red, _, blue = np.asarray(image)[40, 5]
    assert (red < 5, blue > 250) == (True, True)
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 255))
    red, _, blue = np.asarray(decode_image(file_of(clear, icc_profile=profile), name="a"))[5, 5]
    assert (red < 5, blue > 250) == (True, True)
    gray = decode_image(file_of(Image.new("L", (40, 40), 100), icc_profile=profile), name="a")
    assert np.abs(np.asarray(gray).astype(int) - 100).max() <= 2


def test_a_broken_or_unsuitable_profile_is_ignored() -> None:
    """The image is read as sRGB, as in browsers."""
    assert decode_image(file_of(halves(), icc_profile=b"not a profile"), name="a") == halves()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert decode_image(file_of(halves(), icc_profile=lab), name="a") == halves()


def test_metadata_is_removed() -> None:
    """Neither the image nor its PNG contains EXIF, text, XMP or a profile."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SECRET"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET")
    image = decode_image(file_of(halves(), exif=exif, pnginfo=text, icc_profile=display_p3()), name="a")
    assert image.info == {}
    assert dict(image.getexif()) == {}
    png = encode_png(image)
    assert b"SECRET" not in png
    assert all(kind not in png for kind in (b"iCCP", b"eXIf", b"tEXt", b"iTXt", b"pHYs"))


def test_equal_pixels_give_equal_png_bytes() -> None:
    """Metadata of the image object is ignored, and decoding restores the pixels."""
    plain, marked = halves(), halves()
    marked.info["icc_profile"] = display_p3()
    marked.info["Comment"] = "x"
    assert encode_png(plain) == encode_png(marked)
    assert decode_image(encode_png(plain), name="a").tobytes() == plain.tobytes()


def test_fit_square_keeps_the_center() -> None:
    """The ends of a long image are cropped, and the center is resized."""
    image = Image.new("RGB", (120, 40), RED)
    image.paste(BLUE, (40, 0, 80, 40))
    square = fit_square(image, 16)
    assert square.size == (16, 16)
    assert set(square.get_flattened_data()) == {BLUE}


def test_warnings_name_the_image() -> None:
    """Small, elongated and duplicate images cause a warning; good images do not."""
    good = halves(64, 48)
    assert image_warnings([good], 48) == []
    small, long = Image.new("RGB", (40, 40)), Image.new("RGB", (200, 100))
    assert [warning.message for warning in image_warnings([good, small, long, good], 48)] == [
        "image 2 has 40×40 px: it is enlarged to the 48 px of the base model's training images",
        "image 3 has 200×100 px: only its center square is used, 50% is cut off",
        "images 1 and 4 are identical",
    ]


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
