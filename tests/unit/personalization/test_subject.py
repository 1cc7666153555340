"""Validation of a subject against the vocabulary and the text window of a base model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from zoodip_core.base_models.catalog import EMBEDDED
from zoodip_core.errors import InvalidCaptionError, InvalidInputError, InvalidSettingsError, UnknownTokenError
from zoodip_core.personalization.subject import Subject, resolve_subject

EMOJI = EMBEDDED.parent / "emoji"  # reads 14 tokens of a prompt


def test_too_many_vectors_for_the_templates() -> None:
    """The error has the largest number that fits: 14 tokens less the words before the token."""
    subject = Subject("<x>", "turtle")
    templates = ["a {}", "a photo of a {}"]
    resolve_subject(subject, EMOJI, images=1, vectors=10, templates=templates)
    with pytest.raises(InvalidSettingsError, match=r"settings\.vectors: got 16; expected at most 10"):
        resolve_subject(subject, EMOJI, images=1, vectors=16, templates=templates)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_captions_that_do_not_fit(family_folder: dict[str, Path], family: str) -> None:
    """A caption whose token lies beyond the window is refused; one with a long end gets a warning."""
    folder = family_folder[family]
    late = Subject("<x>", "dog", captions=("a <x>", "a photo " * 40 + "<x>"))
    with pytest.raises(InvalidCaptionError, match=r"captions\[1\]: got .* position 81"):
        resolve_subject(late, folder, images=2, vectors=1)
    long = Subject("<x>", "dog", captions=("a <X> " + "a photo " * 40,))
    subject, warnings = resolve_subject(long, folder, images=1, vectors=1)
    assert subject.captions == ("a <x> " + "a photo " * 40,)
    assert [(warning.code, warning.field) for warning in warnings] == [
        ("spelling_corrected", "captions[0]"),
        ("prompt_truncated", "captions[0]"),
    ]


def test_caption_with_an_unknown_token(family_folder: dict[str, Path]) -> None:
    """Another token in a caption is refused before any weights are loaded."""
    subject = Subject("<x>", "dog", captions=("a <x> and a <y>",))
    with pytest.raises(UnknownTokenError, match=r"captions\[0\]: got <y>"):
        resolve_subject(subject, family_folder["sd1"], images=1, vectors=1)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("token", {"token": "<n\udcff>"}),
        ("initializer", {"initializer": "dog \udcff"}),
        ("captions[0]", {"captions": ("a <n> \udcff",)}),
    ],
)
def test_text_that_is_not_utf8(family_folder: dict[str, Path], field: str, changed: dict[str, Any]) -> None:
    """Python reads bytes of a command that are not UTF-8 as unpaired surrogates; tokenizers cannot read them."""
    subject = dataclasses.replace(Subject("<n>", "dog"), **changed)
    with pytest.raises(InvalidInputError) as error:
        resolve_subject(subject, family_folder["sd1"], images=1, vectors=1)
    assert error.value.message.startswith(f"{field}: got ")
    assert error.value.message.endswith("; expected text in UTF-8")
