"""Unpaired surrogates: what Python makes of bytes that are not UTF-8, and what JSON escapes can contain."""

from __future__ import annotations


def has_surrogate(text: str) -> bool:
    """Return whether a text has an unpaired surrogate, which no database stores and no tokenizer reads."""
    return not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text)
