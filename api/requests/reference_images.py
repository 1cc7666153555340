"""Reference images: decodes uploads and stores upright RGB PNGs of the size that base models use. Drops originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.decoding.decoder import DecodedImage, Decoder
from api.requests.bodies import CropSquare
from api.requests.form_reader import FormSchema
from api.requests.reference_files import ReferenceFile
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
from zoodip_core.images.limits import FIELD
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service.object_store import job_prefix, reference_name

IMAGES_SCHEMA: dict[str, Any] = {
    "type": "array",
    "maxItems": MAX_IMAGES,
    "items": {"type": "string", "format": "binary"},
    "description": "Reference images: PNG, JPEG, WebP, HEIC or AVIF. A ZIP file stands for the images in it, with "
    "`.txt` captions of the same names; `image_urls` of `request` adds others. 1 to 16 images in all",
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
    files: Sequence[ReferenceFile],
    crops: Sequence[Crop | None],
    side_px: int | None,
    settings: PersonalizationSettings,
    *,
    store_for: str | None = None,
) -> tuple[list[InputWarning], dict[str, int]]:
    """Decode the images one at a time, so that memory holds only one file.

    Args:
        service: provides the object store.
        decoder: decodes the files.
        files: the files of the images.
        crops: the chosen square of each image.
        side_px: training size of the base model, if known.
        settings: settings of the personalization.
        store_for: id of the job to store each image for; None stores nothing. After an error no image stays stored.

    Returns:
        Warnings for the user, such as images smaller than the training size, and the bytes of each stored image by
        name.

    Raises:
        ImageCountError: There are no images, or more than 16.
        InvalidInputError: A file is not a usable image, or an invisible one with `masked_loss`; the message names the
            file. Or a ZIP file is damaged.
        StorageError: The object store is unavailable or full.
    """
    check_image_count(len(files))
    stored: dict[str, int] = {}
    facts = []
    cropped, masked = settings.image_fit == "crop", settings.masked_loss
    try:
        for index, (file, crop) in enumerate(zip(files, crops, strict=True)):
            decoded = _decode(decoder, file, crop, encode=store_for is not None, opacity=masked)
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
    return warnings_from_facts(facts, side_px, cropped=cropped, masked=masked, crops=crops), stored


def inspect_images(
    decoder: Decoder, files: Sequence[ReferenceFile], crops: Sequence[Crop | None], side_px: int | None
) -> list[tuple[ImageFileFacts, list[InputWarning]]]:
    """Decode the images one at a time and store nothing.

    Args:
        decoder: decodes the files.
        files: the files of the images.
        crops: the chosen square of each image.
        side_px: training size of the base model, if known.

    Returns:
        Format, size and warnings of each image, as if its chosen or center square were used.

    Raises:
        InvalidInputError: As `decode_images`.
    """
    read = [_decode(decoder, file, crop, encode=False) for file, crop in zip(files, crops, strict=True)]
    warnings = warnings_by_image([decoded.facts for decoded in read], side_px, crops=crops)
    return [(decoded.file, found) for decoded, found in zip(read, warnings, strict=True)]


def _decode(
    decoder: Decoder, file: ReferenceFile, crop: Crop | None, *, encode: bool, opacity: bool = False
) -> DecodedImage:
    """Decode an image. The message of an error names the field that the file came in."""
    try:
        return decoder.decode(file.read(), name=file.name, encode=encode, opacity=opacity, crop=crop)
    except InvalidInputError as error:
        if error.field != FIELD or file.field == FIELD:
            raise
        message = error.message.replace(FIELD, file.field, 1)
        raise type(error)(message, field=file.field.partition("[")[0]) from error


def delete_images(service: Service, job_id: str) -> None:
    """Delete the stored images of a job that is not created."""
    service.objects.delete_all(job_prefix(job_id))
