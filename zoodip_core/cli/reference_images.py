"""Reading of reference images and captions for `zoodip personalize`, with a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from zoodip_core.cli.console import say, say_warnings
from zoodip_core.config import ConceptKind
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import Crop, ImageLimits, ReferenceImages, read_reference_images
from zoodip_core.images.crop import CROP_FIELD
from zoodip_core.images.limits import MAX_SETTABLE_FILE_MB, MAX_SETTABLE_MEGAPIXELS
from zoodip_core.personalization.captions import TEMPLATES, captions_of_files

MaxFileOption = Annotated[
    float,
    typer.Option(
        "--max-file-mb",
        envvar="ZOODIP_MAX_FILE_MB",
        min=0.001,
        max=MAX_SETTABLE_FILE_MB,
        help="Largest image file, in MB.",
    ),
]
MaxMegapixelsOption = Annotated[
    float,
    typer.Option(
        "--max-image-megapixels",
        envvar="ZOODIP_MAX_IMAGE_MEGAPIXELS",
        min=0.001,
        max=MAX_SETTABLE_MEGAPIXELS,
        help="Largest image, in megapixels. Larger photos than the base model needs are reduced.",
    ),
]


@dataclass(frozen=True)
class CaptionedImages:
    """Reference images with the captions to use.

    Attributes:
        images: decoded images, in order.
        captions: one for each image; None selects the templates.
        crops: square that was cut out of each image; None for a whole image.
        report: names of images and skipped files, and the captions; `--json` prints it.
    """

    images: list[Image.Image]
    captions: tuple[str, ...] | None
    crops: list[Crop | None]
    report: dict[str, Any]


def read_captioned_images(
    paths: Sequence[Path],
    *,
    token: str,
    kind: ConceptKind,
    captions: Sequence[str] | None,
    limits: ImageLimits,
    crops: Sequence[str] = (),
) -> CaptionedImages:
    """Read images and the `.txt` files of the same names, and print their names and captions.

    A text file is used if it contains the token. If at least one is used, an image without one gets the first
    template of its kind.

    Args:
        paths: files, folders and ZIP files.
        token: the placeholder token.
        kind: "object" or "style".
        captions: captions from the command line; they replace those of text files.
        limits: limits of bytes and pixels of each file.
        crops: squares to cut out, each as `FILE=X,Y,SIDE`.

    Raises:
        InvalidInputError: a file is not usable, or the number of images is out of range.
    """
    read = read_reference_images(paths, limits, _parse_crops(crops))
    say(f"read {_count(len(read.names), 'image')}: {', '.join(read.names)}")
    if read.skipped:
        say(f"skipped {_count(len(read.skipped), 'file')}: {', '.join(read.skipped)}")
    used, source = (tuple(captions), "--caption") if captions else _captions_of_files(read, token, kind)
    say(f"captions: from {source}")
    for name, caption in zip(read.names, used or (), strict=False):  # a wrong number is refused later
        say(f"  {name}: {caption}")
    report = {"images": read.names, "skipped": read.skipped, "captions": used and list(used)}
    return CaptionedImages(read.images, used, read.crops, report)


def _parse_crops(crops: Sequence[str]) -> dict[str, Crop]:
    """Return the crop of each named file.

    Raises:
        InvalidInputError: A text is not `FILE=X,Y,SIDE`, or two name one file.
    """
    parsed: dict[str, Crop] = {}
    for text in crops:
        name, _, square = text.rpartition("=")
        if not name or name in parsed:
            raise InvalidInputError.mismatch(
                CROP_FIELD, got=repr(text), expected="FILE=X,Y,SIDE, once for a file"
            )
        parsed[name] = Crop.parse(square)
    return parsed


def _captions_of_files(
    read: ReferenceImages, token: str, kind: ConceptKind
) -> tuple[tuple[str, ...] | None, str]:
    """Return the captions of text files and where they come from. Print a warning for each that is not used."""
    captions, warnings = captions_of_files(read.captions, read.names, token=token, default=TEMPLATES[kind][0])
    say_warnings(warnings)
    return captions, "templates" if captions is None else "text files"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
