"""Which sentence an image is shown with."""

from __future__ import annotations

import pytest

from zoodip_core.errors import InvalidCaptionError
from zoodip_core.personalization.captions import TEMPLATES, captions_per_image


def test_given_captions_stay_with_their_images() -> None:
    """Each image has its own caption and no other."""
    given = ["a <x> in the snow", "a <x> at night"]
    assert captions_per_image(given, images=2, token="<x>", kind="object") == ((given[0],), (given[1],))


@pytest.mark.parametrize("kind", ["object", "style"])
def test_templates_hold_the_token(kind: str) -> None:
    """Without captions each image may get every template of its kind, with the token in place."""
    rows = captions_per_image(None, images=3, token="<x>", kind=kind)
    assert len(rows) == 3
    assert all(
        len(row) == len(TEMPLATES[kind]) and all(text.count("<x>") == 1 for text in row) for row in rows
    )


def test_a_models_own_templates_win() -> None:
    """A base model with a small vocabulary brings its own sentences."""
    rows = captions_per_image(None, images=1, token="<x>", kind="object", templates=["a {}"])
    assert rows == (("a <x>",),)


def test_wrong_number_of_captions() -> None:
    """The message names both numbers."""
    with pytest.raises(InvalidCaptionError, match="got 1; expected one for each of the 2 images"):
        captions_per_image(["a <x>"], images=2, token="<x>", kind="object")


def test_caption_without_the_token() -> None:
    """A caption that lacks the token is named by its place."""
    with pytest.raises(InvalidCaptionError, match=r"captions\[1\].*<x>") as caught:
        captions_per_image(["a <x>", "a dog"], images=2, token="<x>", kind="object")
    assert caught.value.field == "captions"
