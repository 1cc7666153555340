"""Uploaded photos → what is stored of them: upright RGB PNGs of a size that base models use, originals dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from api.requests.uploads import UploadedFile
from api.service import Service
from zoodip_core.images import check_image_count, decode_image, encode_png, image_warnings
from zoodip_core.service.object_store import job_prefix, reference_name

MAX_SHORT_SIDE_PX = 1024  # what the largest family (SDXL) trains on; more would be cropped and shrunk anyway


def decode_all(
    service: Service, files: Sequence[UploadedFile], side_px: int | None, *, store_for: str | None = None
) -> list[str]:
    """Decode the photos one after the other, so that memory holds one, however many come; warnings for a person.

    Args:
        service: whose object store it is.
        files: the uploads.
        side_px: of the base model, if known.
        store_for: the job for which each is stored at once; on an error none stays. None: only look.

    Raises:
        ImageCountError: there are none, or more than 16.
        InvalidImageError: names the file and its fault.
        StorageError: the store is away or full.
    """
    check_image_count(len(files))
    stored: list[str] = []
    try:
        return image_warnings(_clean(service, files, store_for, stored), side_px)
    except BaseException:
        service.objects.delete(stored)
        raise


def drop_all(service: Service, job_id: str) -> None:
    """Take back what was stored for a job that does not come to be."""
    service.objects.delete_all(job_prefix(job_id))


def _clean(
    service: Service, files: Sequence[UploadedFile], store_for: str | None, stored: list[str]
) -> Iterator[Image.Image]:
    """Each photo as it is stored, with its name in `stored` if it is."""
    for index, file in enumerate(files):
        with service.decoders:
            image = _shrink(decode_image(file.read(), name=file.name))
            if store_for is not None:
                name = reference_name(store_for, index)
                service.objects.put(name, encode_png(image))
                stored.append(name)
        yield image
        del image  # or the next would be decoded beside it


def _shrink(image: Image.Image) -> Image.Image:
    short = min(image.size)
    if short <= MAX_SHORT_SIDE_PX:
        return image
    size = tuple(max(1, round(side * MAX_SHORT_SIDE_PX / short)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
