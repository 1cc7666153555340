"""Decoding of images to upright sRGB without metadata."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from tests.tooling.pictures import BLUE, RED, display_p3, file_of, halves, png_chunk, png_of
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import Crop, decode_image, encode_png, fit_square


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
    square = decode_image(file_of(stored, image_format, exif=exif, **options), name="a", crop=Crop(5, 3, 33))
    assert np.array_equal(np.asarray(square), np.asarray(image.crop((5, 3, 38, 36))))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0XX*\0 not a TIFF header", b"Exif\0\0II*\0\x08\0\0\0\1\0\x0f\1\2\0\xff\xff\0\0\xff\xff\0\0"],
)
def test_unreadable_exif_is_ignored(exif: bytes, recwarn: pytest.WarningsRecorder) -> None:
    """A photo with broken EXIF is decoded without rotation, and without warnings of Pillow on stderr."""
    data = file_of(halves(), "PNG", exif=exif)
    assert decode_image(data, name="a").tobytes() == halves().tobytes()
    assert list(recwarn) == []


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
    data = file_of(palette, transparency=bytes([255, 128]))
    assert decode_image(data, name="a").getpixel((5, 5)) == (255, 127, 127)


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
    """Samples of 16 bits become the same level in 8 bits, with and without color and alpha."""
    gray = Image.fromarray(np.full((40, 40), 0x8000, dtype=np.uint16))
    assert decode_image(file_of(gray), name="a").getpixel((0, 0)) == (128, 128, 128)
    rgb = png_of(40, 40, 16, 2, b"\x80\0\x20\0\x10\0" * 40)
    assert decode_image(rgb, name="a").getpixel((0, 0)) == (128, 32, 16)
    half_transparent = png_of(40, 40, 16, 4, b"\0\0\x80\0" * 40)
    assert decode_image(half_transparent, name="a").getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize(
    ("depth", "color_type", "row", "key", "other"),
    [
        (1, 0, b"\xff" * 5, b"\0\1", b"\0\0"),
        (2, 0, b"\xaa" * 10, b"\0\2", b"\0\1"),
        (4, 0, b"\x77" * 20, b"\0\7", b"\0\6"),
        (8, 0, b"\x77" * 40, b"\0\x77", b"\0\x78"),
        (16, 0, b"\1\2" * 40, b"\1\2", b"\1\3"),
        (16, 0, b"\xff\xff" * 40, b"\xff\xff", b"\xff\xfe"),
        (8, 2, b"\1\2\3" * 40, b"\0\1\0\2\0\3", b"\0\1\0\2\0\4"),
        (16, 2, b"\1\2\3\4\5\6" * 40, b"\1\2\3\4\5\6", b"\1\2\3\4\6\6"),
    ],
    ids=["gray-1", "gray-2", "gray-4", "gray-8", "gray-16", "white-16", "rgb-8", "rgb-16"],
)
def test_the_transparent_color_of_a_png_is_honored(
    depth: int, color_type: int, row: bytes, key: bytes, other: bytes
) -> None:
    """Pixels of the color in the tRNS chunk are white, at each bit depth; pixels of another color stay."""
    clear = decode_image(png_of(40, 40, depth, color_type, row, png_chunk(b"tRNS", key)), name="a")
    assert clear.getpixel((5, 5)) == (255, 255, 255)
    plain = decode_image(png_of(40, 40, depth, color_type, row), name="a")
    opaque = decode_image(png_of(40, 40, depth, color_type, row, png_chunk(b"tRNS", other)), name="a")
    assert opaque == plain


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


def test_a_small_crop_of_a_large_photo_keeps_its_pixels() -> None:
    """A JPEG file is not reduced below the pixels of the crop; its coordinates are those of the whole photo."""
    photo = halves(5_000, 4_400)
    photo.paste((9, 9, 9), (3_000, 2_000, 3_040, 2_040))
    data = file_of(photo, "JPEG", quality=95, subsampling=0)
    square = decode_image(data, name="a", crop=Crop(3_000, 2_000, 40))
    assert square.size == (40, 40)
    assert np.asarray(square).max() < 40
    half = decode_image(data, name="a", crop=Crop(600, 0, 4_400))  # decoded at half the size
    assert half.size == (1_024, 1_024)
    colors = np.asarray(half)[900]
    assert colors[435, 0] > 200  # red ends at (2,500 - 600) / 4,400 of the width
    assert colors[449, 2] > 200


@pytest.mark.parametrize(
    "crop", [Crop(33, 0, 32), Crop(0, 17, 32), Crop(0, 0, 31), Crop(0, 0, 49), Crop(0, 0, 0)]
)
def test_a_crop_outside_the_image_is_refused(crop: Crop) -> None:
    """The message has the square, the file and what is allowed, for each edge and for small squares."""
    expected = "expected a square of at least 32 px inside its 64×48 px"
    with pytest.raises(
        InvalidInputError, match=f"^crop: got x={crop.x}, .* for 'a.png'; {expected}"
    ) as error:
        decode_image(file_of(halves(), "JPEG"), name="a.png", crop=crop)
    assert error.value.field == "crop"
