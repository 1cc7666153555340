"""Pieces of Markdown that the generated pages share."""

from __future__ import annotations

import re

GENERATED = "<!-- Generated from the code by `make reference`. Edit the code instead. -->"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table; line breaks in cells become spaces."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def code(text: str) -> str:
    """Return the text as code; an empty text stays empty."""
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """Return the text on one line, with the characters escaped that would end a cell or start a tag."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)
