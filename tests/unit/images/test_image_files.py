"""Validation of image files: formats, sizes, damage, folders and counts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from tests.tooling.pictures import BLUE, RED, display_p3, file_of, halves, png_header
from zoodip_core import images
from zoodip_core.errors import ImageCountError, ImageTooLargeError, InvalidImageError
from zoodip_core.images import ImageLimits, decode_image, read_images, read_reference_images


def test_the_content_decides_the_format() -> None:
    """A JPEG named `.png` is decoded as JPEG."""
    image = decode_image(file_of(Image.new("RGB", (40, 40), RED), "JPEG"), name="photo.png")
    assert image.getpixel((20, 20)) == (254, 0, 0)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b"", "an empty file"),
        (b"hello, I am a picture", "unknown format"),
        (file_of(halves(), "GIF"), "GIF"),
        (file_of(halves(), "BMP"), "BMP"),
        (file_of(halves(), "TIFF"), "TIFF"),
        (b"RIFF\0\0\0\0WAVEfmt ", "unknown format"),
    ],
)
def test_other_formats_are_named(data: bytes, got: str) -> None:
    """The message names the file, its format and the allowed formats."""
    with pytest.raises(InvalidImageError) as error:
        decode_image(data, name="x.jpg")
    assert error.value.message == f"images: got 'x.jpg' ({got}); expected PNG, JPEG, WebP, HEIC or AVIF"
    assert error.value.field == "images"


@pytest.mark.parametrize(
    ("width", "height", "rule"),
    [
        (31, 64, "32 to 16384 px"),
        (64, 16_385, "32 to 16384 px"),
        (10_001, 10_000, "100 megapixels"),  # Pillow itself warns from 89 megapixels on
        (32, 641, "20 times"),
        (16_384, 16_384, "100 megapixels"),  # and refuses from 178
    ],
)
def test_bad_sizes_are_refused_before_decoding(
    width: int, height: int, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are read from the header, and no pixels are decoded."""
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(InvalidImageError, match=rule):
        decode_image(png_header(width, height), name="big.png")


@pytest.mark.parametrize(("width", "height"), [(32, 32), (32, 640), (640, 32)])
def test_the_smallest_and_longest_allowed_sizes_pass(width: int, height: int) -> None:
    """The bounds themselves are allowed."""
    assert decode_image(file_of(Image.new("RGB", (width, height))), name="a").size == (width, height)


def test_a_file_above_ten_megabytes_is_too_large() -> None:
    """The size is validated before the content is parsed."""
    data = file_of(halves()) + bytes(images.MAX_FILE_BYTES)
    with pytest.raises(
        ImageTooLargeError, match=r"got 'big.png' with 10,000,\d+ bytes; expected at most 10,000,000 bytes"
    ):
        decode_image(data, name="big.png")


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), image_format=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_a_truncated_file_is_an_error(share: float, image_format: str) -> None:
    """A file truncated at any byte is refused, except within the last checksum of a PNG."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = file_of(Image.fromarray(noise), image_format)
    cut = int(share * len(data))
    if cut >= len(data) - {"PNG": 4, "JPEG": 0, "WEBP": 0}[image_format]:
        return
    with pytest.raises(InvalidImageError):
        decode_image(data[:cut], name="cut")


@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(0, 10**6),
    value=st.integers(0, 255),
    image_format=st.sampled_from(["PNG", "JPEG", "WEBP", "AVIF"]),
)
def test_a_damaged_file_gives_an_image_or_a_typed_error(at: int, value: int, image_format: str) -> None:
    """A changed byte never raises another exception."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = bytearray(file_of(halves(), image_format, exif=exif, icc_profile=display_p3()))
    data[at % len(data)] = value
    with contextlib.suppress(InvalidImageError):
        assert decode_image(bytes(data), name="damaged").mode == "RGB"


def test_a_folder_is_read_as_its_images_sorted_by_name(tmp_path: Path) -> None:
    """Captions, hidden files and subfolders are skipped; images without a suffix are found."""
    for name, color in {"b.png": BLUE, "a.PNG": RED, "c": (0, 255, 0)}.items():
        (tmp_path / name).write_bytes(file_of(Image.new("RGB", (40, 40), color)))
    (tmp_path / "a.txt").write_text("a caption")
    (tmp_path / ".hidden.png").write_text("x")
    (tmp_path / "more").mkdir()
    found = read_images([tmp_path])
    assert [image.getpixel((0, 0)) for image in found] == [RED, BLUE, (0, 255, 0)]


def test_skipped_files_of_a_folder_are_named(tmp_path: Path) -> None:
    """Files of other formats, damaged optional formats, folders and stray text are listed with the reason."""
    (tmp_path / "a.png").write_bytes(file_of(halves()))
    (tmp_path / "b.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    (tmp_path / "c.hif").write_bytes(b"\0\0\0\x18ftyphevc\0\0\0\0mif1heic" + bytes(40))
    (tmp_path / "d.dng").write_bytes(b"II+\0" + bytes(40))
    (tmp_path / "e.gif").write_bytes(file_of(halves(), "GIF"))
    (tmp_path / "f.mov").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(8))
    (tmp_path / "notes.txt").write_text("stray")
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    read = read_reference_images([tmp_path])
    assert read.names == ["a.png"]
    assert read.skipped == [
        "b.jxl (JPEG XL)",
        "c.hif (a truncated or damaged HEIC file)",
        "d.dng (DNG)",
        "e.gif (GIF)",
        "f.mov (a video)",
        "more (a folder)",
        "notes.txt (unknown format)",
        "pipe.png (no regular file)",
    ]


def test_a_folder_without_usable_images_says_what_is_there(tmp_path: Path) -> None:
    """The error about the number of images lists the skipped files."""
    (tmp_path / "b.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    with pytest.raises(
        ImageCountError, match=r"got 0 from .* \(skipped b\.jxl \(JPEG XL\)\); expected 1 to 16"
    ):
        read_images([tmp_path])


def test_captions_are_read_from_text_files(tmp_path: Path) -> None:
    """The first line of the `.txt` file of an image is its caption, in a folder and for a single file."""
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(file_of(halves()))
    (tmp_path / "a.txt").write_bytes("\ufeffa photo of a <cat>, café\r\nsecond line\n".encode())
    (tmp_path / "b.txt").write_text("a dog\n")
    (tmp_path / "c.txt").write_text("\n")
    read = read_reference_images([tmp_path])
    assert read.captions == ["a photo of a <cat>, café", "a dog", "", None]
    assert read_reference_images([tmp_path / "a.png"]).captions == ["a photo of a <cat>, café"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.TXT", b"a <cat>, caf\xc3\xa9\n"),
        ("a.txt", b"\n\n  a <cat>, caf\xc3\xa9\n"),
        ("a.txt", "a <cat>, café\r\n".encode("utf-16")),
    ],
)
def test_captions_of_other_editors_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    """The suffix may be in capitals, empty lines may come first, and UTF-16 is recognized by its mark."""
    (tmp_path / "a.png").write_bytes(file_of(halves()))
    (tmp_path / name).write_bytes(content)
    read = read_reference_images([tmp_path])
    assert (read.captions, read.skipped) == (["a <cat>, café"], [])


def test_limits_can_be_set(tmp_path: Path) -> None:
    """Larger limits admit a file that the default refuses, and smaller limits refuse it."""
    (tmp_path / "a.png").write_bytes(file_of(halves()) + bytes(images.MAX_FILE_BYTES))
    limits = ImageLimits.of(file_mb=11, megapixels=0.004)
    assert read_reference_images([tmp_path], limits).names == ["a.png"]
    with pytest.raises(InvalidImageError, match=r"64×48 px\); expected at most 0.003 megapixels"):
        read_reference_images([tmp_path], ImageLimits.of(file_mb=11, megapixels=0.003))


def test_a_broken_image_in_a_folder_is_not_skipped(tmp_path: Path) -> None:
    """A file with an image suffix must be a valid image."""
    (tmp_path / "a.png").write_bytes(file_of(halves()))
    (tmp_path / "b.jpg").write_text("no image")
    with pytest.raises(InvalidImageError, match=r"got 'b\.jpg' \(unknown format\)"):
        read_images([tmp_path])


@pytest.mark.parametrize("count", [0, 17])
def test_one_to_sixteen_images(tmp_path: Path, count: int) -> None:
    """0 and 17 images raise an error that names the folder."""
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(file_of(Image.new("RGB", (40, 40))))
    with pytest.raises(ImageCountError, match=f"images: got {count} from .*; expected 1 to 16") as error:
        read_images([tmp_path])
    assert error.value.field == "images"
    with pytest.raises(ImageCountError, match="images: got 0; expected 1 to 16"):
        read_images([])


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    """A missing path and an oversized file raise an error with the name. A device is not read without end."""
    with pytest.raises(InvalidImageError, match=r"nowhere\.png' \(unreadable: No such file"):
        read_images([tmp_path / "nowhere.png"])
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(images.MAX_FILE_BYTES + 1)
    with pytest.raises(ImageTooLargeError, match=r"'huge\.png'"):
        read_images([tmp_path / "huge.png"])
    with pytest.raises(ImageTooLargeError, match=r"'zero' with 10,000,001 bytes"):
        read_images([Path("/dev/zero")])
