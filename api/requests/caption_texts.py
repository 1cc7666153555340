"""Captions of a request: those of its field `captions`, or else those of `.txt` files in a ZIP file."""

from __future__ import annotations

from collections.abc import Sequence

from api.requests.bodies import (
    MAX_CAPTION_CHARACTERS,
    NOT_STORABLE,
    STORABLE,
    PersonalizationRequest,
    is_storable,
)
from api.requests.reference_files import ReferenceFile
from zoodip_core.errors import InvalidCaptionError
from zoodip_core.input_warnings import InputWarning
from zoodip_core.personalization.captions import TEMPLATES, captions_of_files


def captions_of_request(
    request: PersonalizationRequest, files: Sequence[ReferenceFile], templates: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, list[InputWarning]]:
    """Return a caption for each image, or None for templates, and a warning for each text file that is not used.

    Args:
        request: the parsed request. Its captions replace all text files.
        files: the images.
        templates: templates of the base model; None for the built-in ones. The first one is the caption of an image
            without a text file, if others have one.

    Raises:
        InvalidCaptionError: A text file is too long, or the databases cannot store its text.
    """
    if request.captions is not None:
        return tuple(request.captions), []
    default = (templates or TEMPLATES[request.kind])[0]
    texts, names = [file.caption for file in files], [file.name for file in files]
    captions, warnings = captions_of_files(texts, names, token=request.token, default=default)
    for index, text in enumerate(captions or ()):
        _check(text, f"captions[{index}]")
    return captions, warnings


def _check(text: str, field: str) -> None:
    if len(text) > MAX_CAPTION_CHARACTERS:
        expected = f"at most {MAX_CAPTION_CHARACTERS} characters"
        raise InvalidCaptionError.mismatch(
            field, got=f"a text of {len(text):,} characters", expected=expected
        )
    if not is_storable(text):
        raise InvalidCaptionError.mismatch(field, got=NOT_STORABLE, expected=STORABLE)
