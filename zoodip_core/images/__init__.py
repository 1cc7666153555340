"""Reference images: reads, validates and converts image files, without torch."""

from zoodip_core.images.checks import (
    ImageFacts,
    image_digest,
    image_facts,
    image_warnings,
    warnings_from_facts,
)
from zoodip_core.images.decode import decode_image
from zoodip_core.images.files import ReferenceImages, read_images, read_reference_images
from zoodip_core.images.geometry import fit_square
from zoodip_core.images.limits import (
    MAX_FILE_BYTES,
    MAX_IMAGES,
    MAX_PIXELS,
    ImageLimits,
    check_image_count,
)
from zoodip_core.images.pixels import encode_png

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_IMAGES",
    "MAX_PIXELS",
    "ImageFacts",
    "ImageLimits",
    "ReferenceImages",
    "check_image_count",
    "decode_image",
    "encode_png",
    "fit_square",
    "image_digest",
    "image_facts",
    "image_warnings",
    "read_images",
    "read_reference_images",
    "warnings_from_facts",
]
