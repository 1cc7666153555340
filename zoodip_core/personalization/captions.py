"""Captions of the reference images: given by the user, or templates for objects and styles."""

from __future__ import annotations

from collections.abc import Sequence

from zoodip_core.base_models.vocabulary import Vocabulary
from zoodip_core.config import ConceptKind
from zoodip_core.errors import InvalidCaptionError
from zoodip_core.images.caption_files import REPLACEMENT
from zoodip_core.input_warnings import InputWarning, WarningCode
from zoodip_core.prompt_tokens import contains_token, read_prompt

TEMPLATES: dict[ConceptKind, tuple[str, ...]] = {
    "object": (
        "a photo of a {}",
        "a photo of the {}",
        "a picture that shows a {}",
        "a close look at a {}",
        "one {} in full view",
        "a {} on its own",
        "a sharp photo of one {}",
        "a {} seen in daylight",
    ),
    "style": (
        "a picture in {} style",
        "a scene drawn in {} style",
        "a painting in the look of {}",
        "a work in {} style",
        "a quiet view in {} style",
        "a picture done the {} way",
    ),
}


def captions_per_image(
    captions: Sequence[str] | None,
    *,
    images: int,
    token: str,
    kind: ConceptKind,
    templates: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Return the captions that each image can get in a step: its own caption, or all templates.

    Args:
        captions: one for each image, each with the token; None uses templates.
        images: number of reference images.
        token: the placeholder token.
        kind: "object" or "style".
        templates: sentences with `{}` for the token that replace the built-in ones; a base model with a small
            vocabulary has its own.

    Raises:
        InvalidCaptionError: the number differs from that of the images, or a caption lacks the token.
        UnknownTokenError: a caption contains another token.
    """
    if captions is None:
        sentences = tuple(t.replace("{}", token) for t in templates or TEMPLATES[kind])
        return (sentences,) * images
    read, _ = read_captions(captions, images=images, token=token)
    return tuple((caption,) for caption in read)


def captions_of_files(
    texts: Sequence[str | None], names: Sequence[str], *, token: str, default: str
) -> tuple[tuple[str, ...] | None, list[InputWarning]]:
    """Return the captions that text files next to the images give.

    A text file in UTF-8 or UTF-16 is used if it contains the token. If at least one is used, an image without one
    gets the default.

    Args:
        texts: text of the file of each image; empty if there is no text, None without a file.
        names: file names of the images, for the warnings.
        token: the placeholder token.
        default: sentence with `{}` for the token.

    Returns:
        A caption for each image, or None if no text file is used, and a warning for each one that is not.
    """
    reasons = [None if text is None else _reason_against(text, token) for text in texts]
    usable = [text if reason is None else None for text, reason in zip(texts, reasons, strict=True)]
    warnings = [
        InputWarning(
            WarningCode.CAPTION_UNUSED,
            "captions",
            f"the text file of {name} is not used; it {reason}",
        )
        for name, reason in zip(names, reasons, strict=True)
        if reason is not None
    ]
    if not any(usable):
        return None, warnings
    return tuple(text or default.replace("{}", token) for text in usable), warnings


def _reason_against(text: str, token: str) -> str | None:
    """Return why the text of a file is not a caption; None if it is one."""
    if not text:
        return "is empty"
    if REPLACEMENT in text:
        return "is not text in UTF-8"
    return None if contains_token(text, token) else f"does not contain {token}"


def read_captions(
    captions: Sequence[str], *, images: int, token: str, vocabulary: Vocabulary | None = None
) -> tuple[tuple[str, ...], list[InputWarning]]:
    """Validate the captions of a request, and give the token its spelling where a caption spells it in another way.

    Args:
        captions: one for each image, each with the token.
        images: number of reference images.
        token: the placeholder token.
        vocabulary: words of the base model, as in `read_prompt`.

    Returns:
        The captions with the token as it is spelled, and a warning for each corrected spelling.

    Raises:
        InvalidCaptionError: the number differs from that of the images, or a caption lacks the token.
        UnknownTokenError: a caption contains another token.
    """
    if len(captions) != images:
        raise InvalidCaptionError.mismatch(
            "captions", got=len(captions), expected=f"one for each of the {images} images, or none"
        )
    readings = [
        read_prompt(
            caption,
            [token],
            field=f"captions[{index}]",
            expected=f"only the token {token}",
            vocabulary=vocabulary,
        )
        for index, caption in enumerate(captions)
    ]
    for index, reading in enumerate(readings):
        if not reading.tokens:
            raise InvalidCaptionError.mismatch(
                f"captions[{index}]", got=repr(reading.text), expected=f"a sentence with the token {token}"
            )
    warnings = [warning for reading in readings for warning in reading.warnings]
    return tuple(reading.text for reading in readings), warnings
