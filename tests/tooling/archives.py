"""ZIP files of images and captions."""

from __future__ import annotations

import zipfile
from io import BytesIO


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], **options: int) -> bytes:
    """Return a deflated ZIP file with these entries."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:  # type: ignore[arg-type]
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()
