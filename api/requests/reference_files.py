"""Files of the reference images of a request: uploads, images of uploaded ZIP files, and downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from api.auth import Caller
from api.requests.uploaded_files import MAX_NAME_CHARACTERS, Upload, UploadedFile
from zoodip_core.images import ImageArchive, ImageLimits, check_image_count
from zoodip_core.images.limits import FIELD
from zoodip_core.service.errors import InvalidImageUrlError
from zoodip_core.service.outbound_urls import parse_url

URLS_FIELD = "image_urls"
DEADLINE_S = 60.0
"""Total deadline for the downloads of a request. A proxy waits at least 60 s for a response."""


@dataclass(frozen=True)
class ReferenceFile:
    """The file of a reference image.

    Attributes:
        name: file name, for messages.
        read: returns the content.
        field: field that the file came in, for messages.
        caption: text of the `.txt` file next to it in a ZIP file; empty if there is no text, None without a file.
    """

    name: str
    read: Callable[[], bytes]
    field: str = FIELD
    caption: str | None = None


class RemoteImage:
    """An image that is named by its URL; `read` works once it is downloaded."""

    def __init__(self, url: str, index: int) -> None:
        self.url = url
        self.field = f"{URLS_FIELD}[{index}]"
        self.stored: UploadedFile | None = None
        name = PurePosixPath(unquote(urlsplit(url).path)).name
        self.file = ReferenceFile(name[:MAX_NAME_CHARACTERS] or "image", self._read, self.field)

    def _read(self) -> bytes:
        assert self.stored is not None, "the image is downloaded before it is read"
        return self.stored.read()


def uploaded_images(upload: Upload, limits: ImageLimits, remote: int) -> list[ReferenceFile]:
    """Return the images of the part `images` in order. A ZIP file means the images in it.

    Args:
        upload: the parsed body.
        limits: limits of each image.
        remote: number of images that are named by URLs.

    Raises:
        ImageCountError: There are no images, or more than 16. The message names ignored parts with files.
        InvalidInputError: A ZIP file is damaged or not allowed.
    """
    found: list[ReferenceFile] = []
    for file in upload.files:
        if file.is_archive:
            archived = ImageArchive(file.open(), file.name, limits).images()
            found += [
                ReferenceFile(image.name[:MAX_NAME_CHARACTERS], image.read, caption=image.caption)
                for image in archived
            ]
        else:
            found.append(ReferenceFile(file.name, file.read))
    check_image_count(len(found) + remote, skipped=[f"the part {name!r}" for name in upload.ignored_files])
    return found


def remote_images(caller: Caller, urls: Sequence[str]) -> list[RemoteImage]:
    """Validate the URLs of a request. Nothing is downloaded.

    Raises:
        InvalidImageUrlError: The service downloads no images, or a URL is not allowed.
    """
    mode = caller.service.settings.image_urls
    if urls and mode == "off":
        raise InvalidImageUrlError.mismatch(
            URLS_FIELD,
            got=f"{len(urls)} URL{'' if len(urls) == 1 else 's'}",
            expected="no URLs: this service downloads no images (ZOODIP_IMAGE_URLS=off)",
        )
    for index, url in enumerate(urls):
        parse_url(url, private=mode == "private", field=f"{URLS_FIELD}[{index}]", error=InvalidImageUrlError)
    return [RemoteImage(url, index) for index, url in enumerate(urls)]


async def download(caller: Caller, upload: Upload, images: Sequence[RemoteImage]) -> None:
    """Download the images, one after the other, to the temporary file of the upload.

    Raises:
        UploadsBusyError: The owner has too many requests that download.
        InvalidImageUrlError: An image was not received within the limits; the message names its URL by index.
        StorageError: The disk for temporary files is full.
    """
    if not images:
        return
    current = images[0]
    downloads = caller.service.image_downloads
    try:
        async with (
            downloads.open(caller.owner, is_only_owner=caller.key is None) as downloader,
            asyncio.timeout(DEADLINE_S),
        ):
            for current in images:
                current.stored = upload.begin_file(current.url)
                await downloader.download(current.url, _writer(upload, current.stored), field=current.field)
    except TimeoutError as error:
        raise InvalidImageUrlError.mismatch(
            current.field,
            got="no complete image in time",
            expected=f"all images of a request within {DEADLINE_S:g} s",
        ) from error
    upload.flush()


def _writer(upload: Upload, file: UploadedFile) -> Callable[[bytes], None]:
    return lambda data: upload.append(file, data)
