"""Reference images: decodes uploads and stores upright RGB PNGs of the size that base models use. Drops originals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from api.requests.form_reader import UploadedFile
from api.service import Service
from zoodip_core.images import check_image_count, decode_image, encode_png, image_warnings
from zoodip_core.input_warnings import InputWarning
from zoodip_core.service.object_store import job_prefix, reference_name

MAX_SHORT_SIDE_PX = 1024  # training size of the largest family, SDXL; larger images would be reduced anyway


def decode_images(
    service: Service, files: Sequence[UploadedFile], side_px: int | None, *, store_for: str | None = None
) -> list[InputWarning]:
    """Decode the uploaded images one at a time, so that memory holds only one.

    Args:
        service: provides the object store.
        files: the uploads.
        side_px: training size of the base model, if known.
        store_for: id of the job to store each image for; None stores nothing. After an error no image stays stored.

    Returns:
        Warnings for the user, such as images smaller than the training size.

    Raises:
        ImageCountError: There are no images, or more than 16.
        InvalidImageError: A file is not a usable image; the message names the file.
        StorageError: The object store is unavailable or full.
    """
    check_image_count(len(files))
    stored: list[str] = []
    try:
        return image_warnings(_decoded(service, files, store_for, stored), side_px)
    except BaseException:
        service.objects.delete(stored)
        raise


def delete_images(service: Service, job_id: str) -> None:
    """Delete the stored images of a job that is not created."""
    service.objects.delete_all(job_prefix(job_id))


def _decoded(
    service: Service, files: Sequence[UploadedFile], store_for: str | None, stored: list[str]
) -> Iterator[Image.Image]:
    """Yield each image as stored. Add the names of the stored objects to `stored`."""
    for index, file in enumerate(files):
        with service.decode_slots:
            image = _shrink(decode_image(file.read(), name=file.name))
            if store_for is not None:
                name = reference_name(store_for, index)
                service.objects.put(name, encode_png(image))
                stored.append(name)
        yield image
        del image  # free the memory before the next image is decoded


def _shrink(image: Image.Image) -> Image.Image:
    short = min(image.size)
    if short <= MAX_SHORT_SIDE_PX:
        return image
    size = tuple(max(1, round(side * MAX_SHORT_SIDE_PX / short)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
