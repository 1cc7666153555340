"""Text files next to images: a `.txt` file with the name of an image holds its caption (kohya's convention)."""

from __future__ import annotations

import codecs

CAPTION_SUFFIX = ".txt"
MAX_CAPTION_BYTES = 10_000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands for each character of a caption file that could not be decoded."""


def caption_text(data: bytes) -> str:
    """Return the first line with text of a caption file; empty if it has none.

    Args:
        data: UTF-8, or UTF-16 with its byte order mark, as editors on Windows write it. Damaged characters are
            replaced.
    """
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if is_utf16 else "utf-8-sig", "replace")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
