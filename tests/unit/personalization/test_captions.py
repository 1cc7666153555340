"""Captions of the reference images: given ones and templates."""

from __future__ import annotations

import pytest

from zoodip_core.errors import InvalidCaptionError, UnknownTokenError
from zoodip_core.images.caption_files import caption_text
from zoodip_core.personalization.captions import (
    TEMPLATES,
    captions_of_files,
    captions_per_image,
    read_captions,
)


def test_given_captions_belong_to_their_images() -> None:
    """Each image gets only its own caption."""
    given = ["a <x> in the snow", "a <x> at night"]
    assert captions_per_image(given, images=2, token="<x>", kind="object") == ((given[0],), (given[1],))


@pytest.mark.parametrize("kind", ["object", "style"])
def test_templates_contain_the_token(kind: str) -> None:
    """Without captions, each image can get all templates of its kind, with the token inserted."""
    rows = captions_per_image(None, images=3, token="<x>", kind=kind)
    assert len(rows) == 3
    assert all(
        len(row) == len(TEMPLATES[kind]) and all(text.count("<x>") == 1 for text in row) for row in rows
    )


def test_templates_of_the_base_model_replace_the_defaults() -> None:
    """Templates of a base model are used instead of the built-in ones."""
    rows = captions_per_image(None, images=1, token="<x>", kind="object", templates=["a {}"])
    assert rows == (("a <x>",),)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_text_file_in_another_encoding_is_not_used(encoding: str) -> None:
    """A search never learns from damaged characters; the warning names the file and the encoding."""
    text = caption_text("a <x> en été".encode(encoding))
    captions, warnings = captions_of_files([text], ["a.png"], token="<x>", default="a {}")
    found = [warning.message for warning in warnings]
    if encoding == "latin-1":
        assert (captions, found) == (None, ["the text file of a.png is not used; it is not text in UTF-8"])
    else:
        assert (captions, found) == (("a <x> en été",), [])


def test_wrong_number_of_captions() -> None:
    """The message has the given and the expected number."""
    with pytest.raises(InvalidCaptionError, match="got 1; expected one for each of the 2 images"):
        captions_per_image(["a <x>"], images=2, token="<x>", kind="object")


def test_caption_without_the_token() -> None:
    """The message names the index of the caption that lacks the token."""
    with pytest.raises(InvalidCaptionError, match=r"captions\[1\].*<x>") as caught:
        captions_per_image(["a <x>", "a dog"], images=2, token="<x>", kind="object")
    assert caught.value.field == "captions"


def test_token_in_another_spelling() -> None:
    """The captions get the token's own spelling, and a warning names the caption."""
    captions, warnings = read_captions(["a <X> at night", "a <x>"], images=2, token="<x>")
    assert captions == ("a <x> at night", "a <x>")
    (warning,) = warnings
    assert (warning.code, warning.field) == ("spelling_corrected", "captions[0]")


def test_caption_with_another_token() -> None:
    """A caption cannot use a second token."""
    with pytest.raises(UnknownTokenError, match=r"captions\[1\]: got <y>; expected only the token <x>"):
        read_captions(["a <x>", "a <x> beside a <y>"], images=2, token="<x>")
