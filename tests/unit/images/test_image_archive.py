"""ZIP files of images: hostile ones are refused before anything is unpacked; others give images with captions."""

from __future__ import annotations

import contextlib
import stat
import struct
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tooling.archives import zip_of
from tests.tooling.pictures import file_of, halves
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import ArchivedImage, ImageArchive, ImageLimits, is_archive, read_reference_images

PHOTO = file_of(halves())


def _images(content: bytes) -> list[ArchivedImage]:
    return ImageArchive(BytesIO(content), "photos.zip", ImageLimits()).images()


def _link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def _with_directory_size(size_bytes: int) -> bytes:
    """Return an archive whose end record declares another size of the list of entries."""
    content = bytearray(zip_of(("a.png", PHOTO)))
    struct.pack_into("<L", content, len(content) - 10, size_bytes)
    return bytes(content)


_HOSTILE = [
    (b"", "no ZIP file"),
    (b"PK" + b"x" * 100, "no ZIP file"),
    (zip_of(("../a.png", PHOTO)), "'../a.png'"),
    (zip_of(("/etc/a.png", PHOTO)), "'/etc/a.png'"),
    (zip_of(("a\\..\\b.png", PHOTO)), "inside the archive"),
    (zip_of(("C:/a.png", PHOTO)), "inside the archive"),
    (zip_of(("inner.zip", zip_of(("a.png", PHOTO)))), ".txt captions only"),
    (zip_of(*((f"{n}.png", b"") for n in range(10_000))), "too many entries"),
    (zip_of(*((f"{n}.png", PHOTO) for n in range(17))), "17 images"),
    (zip_of(("a.txt", b"a dog")), "0 images"),
    (zip_of(("a.png", PHOTO), ("b.txt", b"a dog")), "'b.txt'"),
    (zip_of(("a.png", PHOTO), ("a.txt", b"a"), ("a.TXT", b"b")), "two captions"),
    (zip_of(("a.png", PHOTO), ("a.txt", b"x" * 10_001)), "at most 10,000 bytes"),
    (zip_of(("bomb.png", bytes(10_000_001))), "at most 10,000,000 bytes"),
    (zip_of((_link(), b"/etc/passwd")), "a link"),
    (_with_directory_size(1_000_000_000), "too many entries"),
    (_with_directory_size(10), "damaged"),
    (zip_of((".", PHOTO)), "inside the archive"),
]


@pytest.mark.parametrize(("archive", "words"), _HOSTILE, ids=[words for _, words in _HOSTILE])
def test_hostile_archives_are_refused_before_they_are_unpacked(
    monkeypatch: pytest.MonkeyPatch, archive: bytes, words: str
) -> None:
    """The message names the field and the archive; no entry is opened."""
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("an entry was opened"))
    with pytest.raises(InvalidInputError) as error:
        _images(archive)
    assert error.value.message.startswith("images: got 'photos.zip' (")
    assert words in error.value.message


def test_entry_with_a_false_size_is_not_inflated_further() -> None:
    """An entry that declares 100 bytes and inflates to 50 MB is refused, without memory for its content."""
    content = zip_of(("bomb.png", bytes(50_000_000)))
    forged = content.replace(struct.pack("<L", 50_000_000), struct.pack("<L", 100))
    (bomb,) = _images(forged)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match=r"the damaged entry 'bomb\.png'"):
            bomb.read()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5_000_000


def test_images_come_with_their_captions() -> None:
    """Images are sorted by name, each with the first line of its text; clutter of operating systems is left out."""
    content = zip_of(
        ("photos/b.png", PHOTO),
        ("photos/b.txt", "\ufeff\na <dog>, café\nmore".encode()),
        ("photos/a.PNG", b"a"),
        ("photos/a.TXT", "a caption".encode("utf-16")),
        ("c.jpeg", b"c"),
        ("__MACOSX/photos/._a.PNG", b"x"),
        ("photos/.DS_Store", b"x"),
        ("photos/Thumbs.db", b"x"),
        ("photos/Icon\r", b""),
        ("ehthumbs.db", b"x"),
    )
    assert is_archive(content[:4])
    found = [(image.name, image.caption, image.read()) for image in _images(content)]
    assert found == [
        ("c.jpeg", None, b"c"),
        ("a.PNG", "a caption", b"a"),
        ("b.png", "a <dog>, café", PHOTO),
    ]


@pytest.mark.parametrize("suffix", [".apng", ".jpe", ".mpo", ".HIF", ".heics", ".avifs"])
def test_rarer_suffixes_of_readable_images_are_images(suffix: str) -> None:
    """The content decides how an image is read, so a camera's suffix is enough to take it for one."""
    assert [image.name for image in _images(zip_of((f"a{suffix}", PHOTO)))] == [f"a{suffix}"]


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10**6), data=st.binary(min_size=1, max_size=4))
def test_a_damaged_archive_gives_images_or_a_typed_error(at: int, data: bytes) -> None:
    """Changed bytes never raise another exception."""
    content = bytearray(zip_of(("a/é.png", b"abc" * 50), ("a/é.txt", b"a <dog>"), ("b.png", b"x")))
    start = at % len(content)
    content[start : start + len(data)] = data
    with contextlib.suppress(InvalidInputError):
        assert all(isinstance(image.read(), bytes) for image in _images(bytes(content)))


def test_a_zip_file_is_read_as_a_folder(tmp_path: Path) -> None:
    """The command reads the images and captions of a ZIP file, whatever its name, next to other files."""
    archive, single = tmp_path / "photos", tmp_path / "z.png"
    archive.write_bytes(zip_of(("b/b.png", PHOTO), ("a.png", PHOTO), ("a.txt", b"a <cat>")))
    single.write_bytes(PHOTO)
    read = read_reference_images([archive, single])
    assert (read.names, read.captions) == (["a.png", "b.png", "z.png"], ["a <cat>", None, None])
    assert [image.size for image in read.images] == [halves().size] * 3
