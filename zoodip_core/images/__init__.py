"""Reference images: reads, validates and converts image files, without torch."""

from zoodip_core.images.archive import ArchivedImage, ImageArchive, is_archive
from zoodip_core.images.checks import (
    ImageFacts,
    check_visible,
    image_digest,
    image_facts,
    image_warnings,
    warnings_by_image,
    warnings_from_facts,
)
from zoodip_core.images.crop import Crop
from zoodip_core.images.decode import ImageFileFacts, decode_image, decode_image_file, decode_stored_image
from zoodip_core.images.files import ReferenceImages, read_images, read_reference_images
from zoodip_core.images.geometry import center_square, fit_square
from zoodip_core.images.limits import (
    MAX_FILE_BYTES,
    MAX_IMAGES,
    MAX_PIXELS,
    ImageLimits,
    check_image_count,
)
from zoodip_core.images.opacity import without_opacity
from zoodip_core.images.pixels import encode_png

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_IMAGES",
    "MAX_PIXELS",
    "ArchivedImage",
    "Crop",
    "ImageArchive",
    "ImageFacts",
    "ImageFileFacts",
    "ImageLimits",
    "ReferenceImages",
    "center_square",
    "check_image_count",
    "check_visible",
    "decode_image",
    "decode_image_file",
    "decode_stored_image",
    "encode_png",
    "fit_square",
    "image_digest",
    "image_facts",
    "image_warnings",
    "is_archive",
    "read_images",
    "read_reference_images",
    "warnings_by_image",
    "warnings_from_facts",
    "without_opacity",
]
