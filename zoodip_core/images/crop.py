"""A square that a user chose in a photo, and its place in the file as it is stored and decoded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image

from zoodip_core.errors import InvalidInputError
from zoodip_core.images.limits import MIN_SIDE_PX

CROP_FIELD = "crop"
_TEXT = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6})")
_MIRRORS = {  # EXIF transpose → whether the stored left edge is upright's right one, and top its bottom
    Image.Transpose.FLIP_LEFT_RIGHT: (True, False),
    Image.Transpose.ROTATE_180: (True, True),
    Image.Transpose.FLIP_TOP_BOTTOM: (False, True),
    Image.Transpose.ROTATE_270: (False, True),
    Image.Transpose.ROTATE_90: (True, False),
    Image.Transpose.TRANSVERSE: (True, True),
}
SWAPS_SIDES = frozenset(
    (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
    )
)


@dataclass(frozen=True, slots=True)
class Crop:
    """A square in pixels of the upright image at its full size: after EXIF rotation, before any reduction.

    Attributes:
        x: left edge.
        y: top edge.
        side: length of each side.
    """

    x: int
    y: int
    side: int

    @classmethod
    def parse(cls, text: str) -> Crop:
        """Return the crop of a text such as `120,0,800`.

        Raises:
            InvalidInputError: The text has another form.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidInputError.mismatch(CROP_FIELD, got=repr(text), expected="X,Y,SIDE in pixels")
        return cls(*map(int, match.groups()))

    def check(self, width: int, height: int, name: str) -> None:
        """Validate that the square is inside an upright image.

        Args:
            width: width of the image in px.
            height: height of the image in px.
            name: file name of the image.

        Raises:
            InvalidInputError: The square is too small, or not inside the image.
        """
        is_inside = (
            min(self.x, self.y) >= 0 and max(self.x + self.side - width, self.y + self.side - height) <= 0
        )
        if self.side < MIN_SIDE_PX or not is_inside:
            raise InvalidInputError.mismatch(
                CROP_FIELD,
                got=f"x={self.x}, y={self.y}, side={self.side} for {name!r}",
                expected=f"a square of at least {MIN_SIDE_PX} px inside its {width}×{height} px",
            )

    def stored_box(
        self, turn: Image.Transpose | None, stored: tuple[int, int], decoded: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the square in the decoded pixels, which are not upright yet.

        Args:
            turn: transpose that makes the image upright.
            stored: width and height that the file declares.
            decoded: width and height of the decoded pixels, which are fewer if the decoder reduced the image.
        """
        left, top = (self.y, self.x) if turn in SWAPS_SIDES else (self.x, self.y)
        from_right, from_bottom = (False, False) if turn is None else _MIRRORS.get(turn, (False, False))
        left = stored[0] - left - self.side if from_right else left
        top = stored[1] - top - self.side if from_bottom else top
        scale = decoded[0] / stored[0]
        side = min(round(self.side * scale), *decoded)
        left, top = (
            min(round(edge * scale), limit - side) for edge, limit in zip((left, top), decoded, strict=True)
        )
        return left, top, left + side, top + side
