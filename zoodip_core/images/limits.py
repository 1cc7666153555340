"""Limits of reference images: number, file size, sides and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoodip_core.errors import ImageCountError, ImageTooLargeError, InvalidImageError

FIELD = "images"
MAX_IMAGES = 16
MAX_FILE_BYTES = 10_000_000
MAX_PIXELS = 100_000_000
MAX_SETTABLE_FILE_MB = 200
MAX_SETTABLE_MEGAPIXELS = 170  # Pillow refuses images from 178 megapixels on
MIN_SIDE_PX = 32
MAX_SIDE_PX = 16_384
MAX_ASPECT = 20


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of one image that a user or an operator can set.

    Attributes:
        max_file_bytes: size limit of the encoded file.
        max_pixels: limit of width × height, as the header declares them.
    """

    max_file_bytes: int = MAX_FILE_BYTES
    max_pixels: int = MAX_PIXELS

    @classmethod
    def of(cls, *, file_mb: float, megapixels: float) -> ImageLimits:
        """Return the limits for a file size in MB and a number of megapixels."""
        return cls(int(file_mb * 1_000_000), int(megapixels * 1_000_000))

    def check_bytes(self, size_bytes: int, name: str) -> None:
        """Validate the size of an encoded file.

        Raises:
            ImageTooLargeError: the file is too large.
        """
        if size_bytes > self.max_file_bytes:
            raise ImageTooLargeError.mismatch(
                FIELD,
                got=f"{name!r} with {size_bytes:,} bytes",
                expected=f"at most {self.max_file_bytes:,} bytes",
            )

    def check_size(self, size_px: tuple[int, int], name: str) -> None:
        """Validate width and height.

        Raises:
            InvalidImageError: a side, the number of pixels or the aspect ratio is out of range.
        """
        short, long = sorted(size_px)
        got = f"{size_px[0]}×{size_px[1]} px"
        if short < MIN_SIDE_PX or long > MAX_SIDE_PX:
            raise invalid_image(name, got, f"sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} px")
        if short * long > self.max_pixels:
            raise invalid_image(name, got, f"at most {self.max_pixels / 1e6:g} megapixels")
        if long > MAX_ASPECT * short:
            raise invalid_image(name, got, f"a long side of at most {MAX_ASPECT} times the short one")


def check_image_count(count: int, *, sources: Sequence[Path] = (), skipped: Sequence[str] = ()) -> None:
    """Validate the number of reference images: 1 to 16.

    Args:
        count: number of images.
        sources: files and folders that the images come from, for the message.
        skipped: files that were not read, for the message.

    Raises:
        ImageCountError: there are no images, or more than 16.
    """
    if not 1 <= count <= MAX_IMAGES:
        places = f" from {', '.join(str(path) for path in sources)}" if sources else ""
        left_out = f" (skipped {', '.join(skipped)})" if skipped and not count else ""
        raise ImageCountError.mismatch(FIELD, got=f"{count}{places}{left_out}", expected=f"1 to {MAX_IMAGES}")


def invalid_image(name: str, got: str, expected: str) -> InvalidImageError:
    """Return the error for a file that is not a usable image.

    Args:
        name: name of the file.
        got: what is wrong with it.
        expected: what is allowed.
    """
    error = InvalidImageError.mismatch(FIELD, got=f"{name!r} ({got})", expected=expected)
    error.reason = got
    return error
