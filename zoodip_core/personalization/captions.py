"""The sentences that a token is learned in: given for each image, else templates for things and for styles."""

from __future__ import annotations

from collections.abc import Sequence

from zoodip_core.config import ConceptKind
from zoodip_core.errors import InvalidCaptionError

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
    """The captions that each image may get in a step: its own one, else all templates.

    Args:
        captions: one for each image, each with the token; or None.
        images: number of reference images.
        token: the placeholder token.
        kind: a thing or a style.
        templates: sentences with `{}` for the token, in place of the built-in ones: a base model with a small
            vocabulary brings its own.

    Raises:
        InvalidCaptionError: the number is not that of the images, or a caption lacks the token.
    """
    if captions is None:
        sentences = tuple(t.replace("{}", token) for t in templates or TEMPLATES[kind])
        return (sentences,) * images
    if len(captions) != images:
        raise InvalidCaptionError(
            f"captions: {len(captions)} came for {images} images; allowed: one for each image, or none",
            field="captions",
        )
    for index, caption in enumerate(captions):
        if token not in caption:
            raise InvalidCaptionError(
                f"captions[{index}]: {caption!r} does not hold the token {token}", field="captions"
            )
    return tuple((caption,) for caption in captions)
