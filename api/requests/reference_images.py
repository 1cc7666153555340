"""Reference images: decodes uploads and stores upright RGB PNGs of the size that base models use. Drops originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.decoding.decoder import Decoder
from api.requests.bodies import CropSquare
from api.requests.form_reader import FormSchema, Upload, UploadedFile
from api.service import Service
from zoodip_core.config import PersonalizationSettings
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import (
    MAX_IMAGES,
    Crop,
    ImageFileFacts,
    check_image_count,
    check_visible,
    warnings_by_image,
    warnings_from_facts,
)
from zoodip_core.images.crop import CROP_FIELD
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service.object_store import job_prefix, reference_name

IMAGES_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_IMAGES,
    "items": {"type": "string", "format": "binary"},
    "description": "Reference images: PNG, JPEG, WebP, HEIC or AVIF",
}
"""JSON schema of the part `images`."""


def images_form(service: Service, *fields: str) -> FormSchema:
    """Return the form of a request with the part `images` and the given fields."""
    return FormSchema(
        files="images",
        fields=frozenset(fields),
        max_files=MAX_IMAGES,
        max_file_bytes=service.settings.image_limits.max_file_bytes,
    )


def check_uploads(upload: Upload) -> None:
    """Validate the number of images of an upload.

    Raises:
        ImageCountError: There are no images, or more than 16. The message names ignored parts with files.
    """
    check_image_count(len(upload.files), skipped=[f"the part {name!r}" for name in upload.ignored_files])


def read_crops(crops: Sequence[CropSquare | None] | None, images: int) -> list[Crop | None]:
    """Return the crop of each image; None for an image without one.

    Raises:
        InvalidInputError: The number of crops is not that of the images.
    """
    if crops is None:
        return [None] * images
    if len(crops) != images:
        raise InvalidInputError.mismatch(
            CROP_FIELD,
            got=f"a list of {len(crops)}",
            expected=f"one square or null for each of the {images} images",
        )
    return [None if crop is None else crop.crop() for crop in crops]


def decode_images(
    service: Service,
    decoder: Decoder,
    files: Sequence[UploadedFile],
    crops: Sequence[Crop | None],
    side_px: int | None,
    settings: PersonalizationSettings,
    *,
    store_for: str | None = None,
) -> tuple[list[InputWarning], dict[str, int]]:
    """Decode the uploaded images one at a time, so that memory holds only one file.

    Args:
        service: provides the object store.
        decoder: decodes the files.
        files: the uploads.
        crops: the chosen square of each image.
        side_px: training size of the base model, if known.
        settings: settings of the personalization.
        store_for: id of the job to store each image for; None stores nothing. After an error no image stays stored.

    Returns:
        Warnings for the user, such as images smaller than the training size, and the bytes of each stored image by
        name.

    Raises:
        ImageCountError: There are no images, or more than 16.
        InvalidImageError: A file is not a usable image, or an invisible one with `masked_loss`; the message names
            the file.
        StorageError: The object store is unavailable or full.
    """
    check_image_count(len(files))
    stored: dict[str, int] = {}
    facts = []
    cropped, masked = settings.image_fit == "crop", settings.masked_loss
    try:
        for index, (file, crop) in enumerate(zip(files, crops, strict=True)):
            decoded = decoder.decode(
                file.read(), name=file.name, encode=store_for is not None, opacity=masked, crop=crop
            )
            if masked:
                check_visible(decoded.facts, file.name, cropped=cropped)
            facts.append(decoded.facts)
            if store_for is not None:
                name = reference_name(store_for, index)
                service.objects.put(name, decoded.png)
                stored[name] = len(decoded.png)
    except BaseException:
        service.objects.delete(stored)
        raise
    return warnings_from_facts(facts, side_px, cropped=cropped, masked=masked), stored


def inspect_images(
    decoder: Decoder, files: Sequence[UploadedFile], crops: Sequence[Crop | None], side_px: int | None
) -> list[tuple[ImageFileFacts, list[InputWarning]]]:
    """Decode the uploaded images one at a time and store nothing.

    Args:
        decoder: decodes the files.
        files: the uploads.
        crops: the chosen square of each image.
        side_px: training size of the base model, if known.

    Returns:
        Format, size and warnings of each image, as if its chosen or center square were used.

    Raises:
        InvalidImageError: A file is not a usable image; the message names the file.
    """
    read = [
        decoder.decode(file.read(), name=file.name, encode=False, crop=crop)
        for file, crop in zip(files, crops, strict=True)
    ]
    warnings = warnings_by_image([decoded.facts for decoded in read], side_px)
    return [(decoded.file, found) for decoded, found in zip(read, warnings, strict=True)]


def delete_images(service: Service, job_id: str) -> None:
    """Delete the stored images of a job that is not created."""
    service.objects.delete_all(job_prefix(job_id))
