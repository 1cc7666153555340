"""Warnings about input that is usable but may not give what the user expects. A warning never blocks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WarningCode(StrEnum):
    """Stable codes of warnings, for programs."""

    IMAGE_ENLARGED = "image_enlarged"
    IMAGE_CROPPED = "image_cropped"
    IMAGE_DISTORTED = "image_distorted"
    IMAGES_IDENTICAL = "images_identical"
    IMAGES_SIMILAR = "images_similar"
    IMAGE_UNIFORM = "image_uniform"
    IMAGE_BLURRED = "image_blurred"
    IMAGE_OVEREXPOSED = "image_overexposed"
    IMAGE_UNDEREXPOSED = "image_underexposed"
    IMAGE_TRANSPARENT = "image_transparent"
    NO_MASK = "no_mask"
    CAPTION_UNUSED = "caption_unused"
    SPELLING_CORRECTED = "spelling_corrected"
    CONCEPT_UNUSED = "concept_unused"
    PROMPT_TRUNCATED = "prompt_truncated"
    INITIALIZER_SPLIT = "initializer_split"
    MODEL_MISMATCH = "model_mismatch"
    FIELD_IGNORED = "field_ignored"
    VALUE_ADJUSTED = "value_adjusted"


MEANINGS = {
    WarningCode.IMAGE_ENLARGED: "A reference image is smaller than the training images of the base model.",
    WarningCode.IMAGE_CROPPED: "The center square leaves out a third or more of a reference image.",
    WarningCode.IMAGE_DISTORTED: "`image_fit: squash` changes the aspect ratio of a reference image by more than 2.",
    WarningCode.IMAGES_IDENTICAL: "Two reference images have the same pixels.",
    WarningCode.IMAGES_SIMILAR: "Two reference images look nearly the same (64-bit dHash, at most 3 bits differ).",
    WarningCode.IMAGE_UNIFORM: "The center square or the chosen square of a reference image has nearly one color.",
    WarningCode.IMAGE_BLURRED: "The center square or the chosen square of a reference image has no sharp edge.",
    WarningCode.IMAGE_OVEREXPOSED: "Large parts of a reference image are white, without a plain background.",
    WarningCode.IMAGE_UNDEREXPOSED: "Nearly all pixels of a reference image are dark.",
    WarningCode.IMAGE_TRANSPARENT: "Transparent parts of a reference image become white; `masked_loss` is off.",
    WarningCode.NO_MASK: "`masked_loss` is on, but no reference image has transparent parts.",
    WarningCode.CAPTION_UNUSED: "A text file next to an image is empty or does not contain the token.",
    WarningCode.SPELLING_CORRECTED: "A learned token is spelled in another way; it was read as the token.",
    WarningCode.CONCEPT_UNUSED: "The prompt does not contain the token of a given concept.",
    WarningCode.PROMPT_TRUNCATED: "The end of the prompt does not fit in the window of the text encoder.",
    WarningCode.INITIALIZER_SPLIT: "A word of the initializer has several tokens, or one vector starts from a mean.",
    WarningCode.MODEL_MISMATCH: "The concept was learned on other weights than those of the base model.",
    WarningCode.FIELD_IGNORED: "A field of another API has no effect here (see Compatibility).",
    WarningCode.VALUE_ADJUSTED: "A value of another API's request is not possible here; another one was used.",
}


@dataclass(frozen=True, slots=True)
class InputWarning:
    """A warning: a stable code, the input field that it is about, and a message for people."""

    code: WarningCode
    field: str
    message: str
