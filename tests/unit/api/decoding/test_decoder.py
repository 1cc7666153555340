"""Decoder processes: results, limits of time and memory, restarts, isolation."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import psutil
import pytest
from PIL import Image

from api.decoding.decoder import DecodedImage, DecodeLimits, Decoder
from tests.tooling.pictures import file_of, halves, png_chunk, png_of
from zoodip_core.errors import ImageTooLargeError, InvalidImageError
from zoodip_core.images import ImageLimits, decode_image_file, encode_png, image_facts


@contextmanager
def _decoder(
    *, timeout_s: float = 60, memory_mb: int = 2_000, image: ImageLimits | None = None
) -> Iterator[Decoder]:
    decoder = Decoder(DecodeLimits(image or ImageLimits(), timeout_s, memory_mb))
    try:
        yield decoder
    finally:
        decoder.close()


def _children() -> list[psutil.Process]:
    """Return the decoder processes of this test's process, which may have started others as well."""
    return [p for p in psutil.Process().children() if "api.decoding.child" in " ".join(p.cmdline())]


def _child() -> psutil.Process:
    (child,) = _children()
    return child


def test_a_decoder_returns_what_decoding_in_this_process_returns() -> None:
    """Facts and PNG are the same; without encoding the PNG is empty."""
    data = file_of(halves(), "JPEG")
    image, file = decode_image_file(data, name="a")
    with _decoder() as decoder:
        for encode, png in ((True, encode_png(image)), (False, b"")):
            found = decoder.decode(data, name="a", encode=encode)
            assert found == DecodedImage(image_facts(image), file, png)


def test_errors_keep_their_type_and_message() -> None:
    """A bad file raises the same error as in this process, and the decoder stays usable."""
    with _decoder(image=ImageLimits(max_file_bytes=1_000)) as decoder:
        with pytest.raises(InvalidImageError, match=r"images: got 'x' \(unknown format\); expected PNG"):
            decoder.decode(b"text", name="x", encode=True)
        process = _child()
        with pytest.raises(ImageTooLargeError, match="at most 1,000 bytes") as error:
            decoder.decode(bytes(1_001), name="x", encode=True)
        assert error.value.field == "images"
        assert decoder.decode(file_of(halves()), name="a", encode=False).facts.width == 64
        assert _child() == process


def test_a_slow_decode_is_ended() -> None:
    """The error names the time limit, and no process is left."""
    with _decoder(timeout_s=0.02) as decoder:  # less than the start of a process takes
        for _ in range(2):
            with pytest.raises(InvalidImageError, match=r"'a' \(takes more than 0.02 s to decode\)"):
                decoder.decode(file_of(halves()), name="a", encode=True)
        assert _children() == []


def test_a_decode_that_takes_too_much_memory_is_an_error() -> None:
    """The error says so, and the decoder then decodes a smaller image."""
    large = png_of(7_000, 7_000, 8, 2, bytes(21_000))
    with _decoder(memory_mb=150) as decoder:
        with pytest.raises(InvalidImageError, match="takes too much memory to decode"):
            decoder.decode(large, name="a", encode=True)
        assert decoder.decode(file_of(halves()), name="a", encode=False).facts.height == 48


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpeg", "gray-16", "gray-1"])
def test_large_photos_are_decoded_in_bounded_memory(kind: str) -> None:
    """The memory is a fraction of that of the full size in RGB (196 and 160 MB), or of float64 (320 MB)."""
    if kind == "jpeg":
        data = file_of(Image.new("RGB", (8_064, 6_048), "teal"), "JPEG")
    elif kind == "gray-16":
        data = png_of(8_000, 5_000, 16, 0, b"\x80\0" * 8_000)
    else:
        data = png_of(8_064, 6_048, 1, 0, b"\xaa" * 1_008)
    with _decoder(memory_mb=160) as decoder:
        decoded = decoder.decode(data, name="photo", encode=True)
    facts = decoded.facts
    assert min(facts.width, facts.height) == 1_024
    with Image.open(BytesIO(decoded.png)) as image:
        assert image.size == (facts.width, facts.height)


def test_a_decoder_that_dies_is_replaced() -> None:
    """A process that was killed while it was idle is started again."""
    with _decoder() as decoder:
        decoder.decode(file_of(halves()), name="a", encode=False)
        child = _child()
        child.kill()
        child.wait()
        assert decoder.decode(file_of(halves()), name="a", encode=False).facts.width == 64


def test_a_decoder_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process inherits neither the environment nor open files of the API."""
    monkeypatch.setenv("ZOODIP_BOOTSTRAP_KEY", "zd_secret")
    with open(os.devnull) as inherited, _decoder() as decoder:  # noqa: PTH123 (a file descriptor to inherit)
        os.set_inheritable(inherited.fileno(), True)
        decoder.decode(file_of(halves()), name="a", encode=False)
        assert not any(name.startswith("ZOODIP") for name in _child().environ())
        assert _child().num_fds() <= 4  # the standard streams and the connection


@pytest.mark.parametrize("size", [10, 100_000])
def test_compressed_metadata_is_not_expanded(size: int) -> None:
    """A text chunk that expands a thousandfold is dropped, before its memory is needed."""
    chunk = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(size * 1_000)))
    with _decoder(memory_mb=100) as decoder:
        data = png_of(64, 48, 8, 2, bytes(192), chunk)
        assert decoder.decode(data, name="a", encode=False).facts.width == 64
