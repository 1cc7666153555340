"""Formats: phone photos, unusual variants, names of formats that are not read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from pillow_heif import register_heif_opener

from tests.tooling.pictures import BLUE, RED, file_of, halves
from zoodip_core.errors import InvalidImageError
from zoodip_core.images import decode_image, formats
from zoodip_core.images.headers import MAX_SCANS, count_scans


def _ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = major + bytes(4) + b"".join(compatible)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body


def _difference(image: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(image).astype(int) - np.asarray(other).astype(int)).mean())


def _encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    if image_format == "HEIF":
        register_heif_opener()
    return file_of(image, image_format, **options)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        *(
            (_ftyp(brand, b"mif1", b"heic"), "HEIC")
            for brand in (b"heic", b"heix", b"heim", b"hevc", b"hevx")
        ),
        *((_ftyp(brand, b"mif1", b"miaf"), "AVIF") for brand in (b"avif", b"avis")),
        (_ftyp(b"mif1", b"mif1", b"heic"), "HEIC"),
        (_ftyp(b"msf1", b"hevc"), "HEIC"),
        (_ftyp(b"mif1", b"avif"), "AVIF"),
        (_ftyp(b"msf1", b"avis"), "AVIF"),
        (_ftyp(b"mif1"), "HEIF"),
        (_ftyp(b"qt  "), "a video"),
        (_ftyp(b"crx "), "camera raw"),
        (_ftyp(b"xxxx"), None),
        (b"\xff\x0a" + bytes(30), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
        (b"", "an empty file"),
        (b"text", None),
    ],
)
def test_formats_are_identified_by_content(head: bytes, name: str | None) -> None:
    """Brands of HEIC and AVIF, and formats that are not read, are named."""
    assert formats.identify(head) == name


def test_the_suffix_names_formats_without_a_signature() -> None:
    """Camera raw files look like TIFF, and TGA has no signature. A readable content wins over the suffix."""
    assert formats.describe("a.dng", b"II*\0") == "DNG"
    assert formats.describe("a.NEF", b"MM\0*") == "camera raw"
    assert formats.describe("a.tga", bytes(30)) == "TGA"
    assert formats.describe("a.dng", file_of(halves(), "JPEG")) == "JPEG"


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF"])
def test_phone_formats_are_decoded(image_format: str) -> None:
    """HEIC and AVIF files decode to nearly the original pixels."""
    image = decode_image(_encoded(halves(), image_format, quality=95), name="a.jpg")
    assert image.size == (64, 48)
    assert _difference(image, halves()) < 8


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotation_of_the_container_is_applied_once(orientation: int, image_format: str) -> None:
    """Encoders store the rotation in the container and in EXIF; the image is turned once."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation → transpose of the stored image
    upright = halves()
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = decode_image(_encoded(stored, image_format, exif=exif.tobytes(), quality=95), name="a")
    assert image.size == upright.size
    assert _difference(image, upright) < 8


def test_an_animated_avif_decodes_to_its_first_frame() -> None:
    """The other frames are dropped."""
    frames = [Image.new("RGB", (64, 64), color) for color in (RED, BLUE)]
    data = file_of(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert _difference(decode_image(data, name="a"), frames[0]) < 8


def test_an_animated_avif_without_a_time_scale_is_damaged() -> None:
    """The box with the time scale is gone, and Pillow divides by 0."""
    frames = [Image.new("RGB", (64, 64), color) for color in (RED, BLUE)]
    data = file_of(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert b"mdhd" in data
    with pytest.raises(InvalidImageError, match="truncated or damaged AVIF"):
        decode_image(data.replace(b"mdhd", b"none"), name="a.avif")


def test_a_burst_decodes_to_its_primary_image() -> None:
    """A HEIC file with several images gives the one that is declared primary."""
    frames = [Image.new("RGB", (64, 64), color) for color in (RED, BLUE)]
    data = _encoded(frames[0], "HEIF", save_all=True, append_images=frames[1:], primary_index=1)
    assert _difference(decode_image(data, name="a"), frames[1]) < 8


def test_transparency_of_phone_formats_is_flattened() -> None:
    """Transparent pixels of HEIC and AVIF are white."""
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    for image_format in ("HEIF", "AVIF"):
        image = decode_image(_encoded(clear, image_format), name="a")
        assert _difference(image, Image.new("RGB", (64, 64), "white")) < 4


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_phone_photo_is_an_error(image_format: str, share: float) -> None:
    """A cut file is refused with a typed error."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _encoded(Image.fromarray(noise), image_format)
    with pytest.raises(InvalidImageError, match="truncated or damaged"):
        decode_image(data[: int(share * len(data))], name="cut")


def test_without_pillow_heif_the_error_names_two_ways_out(tmp_path: Path) -> None:
    """Other formats decode; a HEIC file is refused with the command to install and another format."""
    (tmp_path / "a.avif").write_bytes(file_of(halves(), "AVIF"))
    (tmp_path / "IMG_0001.heic").write_bytes(_encoded(halves(), "HEIF"))
    script = """
import sys
sys.modules["pillow_heif"] = None
from pathlib import Path
from zoodip_core.errors import InvalidImageError
from zoodip_core.images import read_reference_images
folder = Path(sys.argv[1])
read = read_reference_images([folder])
print(read.names, read.skipped)
try:
    read_reference_images([folder / "IMG_0001.heic"])
except InvalidImageError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "['a.avif'] ['IMG_0001.heic (HEIC; the package pillow-heif is not installed)']",
        "images: got 'IMG_0001.heic' (HEIC; the package pillow-heif is not installed); "
        "expected pip install 'zoodip[heif]', or the image converted to JPEG",
    ]


def test_a_phone_jpeg_with_several_pictures_is_a_photo() -> None:
    """An MPO file, as phones write for depth and HDR, gives its first picture without a warning."""
    first, second = halves(), Image.new("RGB", (64, 48))
    data = file_of(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert _difference(decode_image(data, name="a"), first) < 8
    broken = data.replace(b"MPF\0II", b"MPF\0XX").replace(b"MPF\0MM", b"MPF\0XX")
    assert broken != data
    assert _difference(decode_image(broken, name="a"), first) < 8


def test_a_jpeg_in_print_colors_with_appended_data_is_decoded() -> None:
    """CMYK is converted, and data after the end of the image is ignored."""
    cmyk = Image.new("CMYK", (64, 48), (0, 255, 255, 0))
    image = decode_image(file_of(cmyk, "JPEG", quality=95) + b"appended", name="a.png")
    assert _difference(image, Image.new("RGB", (64, 48), RED)) < 4


def test_interlaced_and_progressive_files_are_decoded() -> None:
    """A progressive JPEG of a usual encoder has few scans."""
    data = file_of(halves(), "JPEG", progressive=True, quality=95)
    assert 2 < count_scans(data) < MAX_SCANS
    assert _difference(decode_image(data, name="a"), halves()) < 8


def test_a_jpeg_with_many_scans_is_refused_before_decoding() -> None:
    """Each scan costs a pass over all pixels, although it takes only a few bytes of the file."""
    data = file_of(halves(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    bomb = data[:-2] + last * 200 + data[-2:]
    with pytest.raises(InvalidImageError, match=r"a JPEG file with 2\d\d scans\); expected at most 32 scans"):
        decode_image(bomb, name="bomb")


def test_scans_of_an_embedded_thumbnail_do_not_count() -> None:
    """Markers inside the content of a segment, and those after the end of the image, are no scans."""
    thumbnail = file_of(halves(32, 32), "JPEG", progressive=True)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = file_of(halves(), "JPEG")
    assert count_scans(data[:2] + segment + data[2:] + thumbnail) == count_scans(data) == 1


def test_counting_scans_takes_linear_time() -> None:
    """Long runs of fill bytes and of markers without content end within the time limit of the test."""
    assert count_scans(b"\xff\xd8" + b"\xff" * 5_000_000 + b"\0") == 0
    assert count_scans(b"\xff\xd8" + b"\xff\xda\0\0" * 500_000) == 500_000
    assert count_scans(b"\xff\xd8" + b"\xff" * 100 + b"\xda\0\2") == 1


def test_the_canvas_of_a_webp_is_validated_before_its_decoder_allocates_it() -> None:
    """A header of a few bytes that declares 16,384 × 16,384 px is refused."""
    header = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff\x3f\0" * 2 + bytes(16)
    with pytest.raises(InvalidImageError, match="16384×16384 px"):
        decode_image(header, name="bomb")
