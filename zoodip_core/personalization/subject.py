"""The subject of a personalization, and its validation against the files of a base model. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoodip_core.base_models.text_window import TextWindow, check_window, text_windows, token_excess
from zoodip_core.base_models.vocabulary import check_initializer, check_token
from zoodip_core.config import ConceptKind
from zoodip_core.errors import InvalidInputError, InvalidSettingsError
from zoodip_core.images import check_image_count
from zoodip_core.input_warnings import InputWarning
from zoodip_core.personalization.captions import captions_per_image, read_captions
from zoodip_core.surrogates import has_surrogate


@dataclass(frozen=True)
class Subject:
    """The subject to learn, as the user describes it.

    Attributes:
        token: placeholder token, such as `<my-dog>`.
        initializer: text whose embeddings the search starts from: one token for all vectors, one for each, or any
            number for one vector, which starts from their mean.
        kind: "object" or "style".
        captions: one sentence for each image, with the token; None uses templates.
    """

    token: str
    initializer: str
    kind: ConceptKind = "object"
    captions: tuple[str, ...] | None = None


def resolve_subject(
    subject: Subject, folder: Path, *, images: int, vectors: int, templates: Sequence[str] | None = None
) -> tuple[Subject, list[InputWarning]]:
    """Validate a subject against the vocabulary and the text window of a base model; needs no weights.

    Args:
        subject: the subject.
        folder: pipeline folder of the base model.
        images: number of reference images.
        vectors: number of vectors of the token.
        templates: templates of the base model for captions; None uses the built-in ones.

    Returns:
        The subject with its captions as they are read, and warnings about initializer and captions.

    Raises:
        InvalidInputError: names the field: images, token, initializer, captions or settings.vectors.
    """
    check_image_count(images)
    _check_characters(subject)
    windows = text_windows(folder)
    words = windows[0].vocabulary
    check_token(subject.token, words)
    warnings = check_initializer(subject.initializer, words, vectors)
    if subject.captions is None:
        _check_templates(subject, windows, vectors=vectors, templates=templates)
        return subject, warnings
    captions, notes = read_captions(subject.captions, images=images, token=subject.token, vocabulary=words)
    warnings += notes
    for index, caption in enumerate(captions):
        warnings += check_window(caption, {subject.token: vectors}, windows, field=f"captions[{index}]")
    return replace(subject, captions=captions), warnings


def _check_characters(subject: Subject) -> None:
    """Validate that all texts are Unicode: bytes of a command that are not UTF-8 become unpaired surrogates.

    Raises:
        InvalidInputError: a text has an unpaired surrogate, which no tokenizer reads.
    """
    captions = {f"captions[{index}]": text for index, text in enumerate(subject.captions or ())}
    for field, text in {"token": subject.token, "initializer": subject.initializer, **captions}.items():
        if has_surrogate(text):
            raise InvalidInputError.mismatch(field, got=repr(text), expected="text in UTF-8")


def _check_templates(
    subject: Subject, windows: Sequence[TextWindow], *, vectors: int, templates: Sequence[str] | None
) -> None:
    """Validate that the vectors of the token fit into every template.

    Raises:
        InvalidSettingsError: there are too many vectors.
    """
    (sentences,) = captions_per_image(
        None, images=1, token=subject.token, kind=subject.kind, templates=templates
    )
    excess = max(token_excess(sentence, {subject.token: vectors}, windows) for sentence in sentences)
    if excess > 0:
        raise InvalidSettingsError.mismatch(
            "settings.vectors",
            got=vectors,
            expected=f"at most {vectors - excess}, so that the base model reads the whole token in a caption",
        )
