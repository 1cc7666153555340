"""Errors of zoodip: one class tree with stable codes, the invalid field, and a retry flag."""

from __future__ import annotations

from typing import ClassVar, Self

_MAX_GOT = 200
"""Characters of a bad value that a message repeats."""


class ZoodipError(Exception):
    """Something went wrong in zoodip."""

    code: ClassVar[str] = "zoodip_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        """Store the message (by default the class docstring) and the name of the invalid field."""
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.field = field

    @classmethod
    def mismatch(cls, field: str, *, got: object, expected: str) -> Self:
        """Return the error for a bad value: "<field>: got <value>; expected <expected>".

        Args:
            field: name of the field, with an index where there are several: `captions[2]`.
            got: the value, or a description of it; pass `repr(text)` to quote text.
            expected: what is allowed.
        """
        text = str(got)
        shown = text if len(text) <= _MAX_GOT else f"{text[:_MAX_GOT]}…"
        return cls(f"{field}: got {shown}; expected {expected}", field=field.partition("[")[0])

    @property
    def message(self) -> str:
        """One sentence for the user."""
        return str(self.args[0])


class InvalidInputError(ZoodipError):
    """The request contains a value that is not allowed."""

    code = "invalid_input"


class InvalidSettingsError(InvalidInputError):
    """A setting has an unknown name or a value that is not allowed."""

    code = "invalid_settings"


class InvalidImageError(InvalidInputError):
    """The file is not a usable image."""

    code = "invalid_image"
    reason: str = ""  # what is wrong with the file, without its name


class ImageCountError(InvalidInputError):
    """A personalization takes 1 to 16 reference images."""

    code = "image_count"


class ImageTooLargeError(InvalidInputError):
    """The image file is larger than allowed."""

    code = "image_too_large"


class InvalidTokenError(InvalidInputError):
    """The placeholder token is malformed, or is already a word of the base model."""

    code = "invalid_token"


class InvalidInitializerError(InvalidInputError):
    """The base model has no such text, or its number of tokens does not fit the number of vectors."""

    code = "invalid_initializer"


class InvalidCaptionError(InvalidInputError):
    """A caption lacks the token, a learned token lies beyond the text window, or the number of captions is wrong."""

    code = "invalid_caption"


class UnknownTokenError(InvalidInputError):
    """The prompt contains a placeholder token without a matching concept."""

    code = "unknown_token"


class UnknownBaseModelError(InvalidInputError):
    """The catalog has no base model of that name."""

    code = "unknown_base_model"


class UnknownSchedulerError(InvalidInputError):
    """The name of the scheduler is unknown."""

    code = "unknown_scheduler"


class InvalidModelError(ZoodipError):
    """The base model's folder is incomplete, or the model is not supported."""

    code = "invalid_model"


class InvalidArtifactError(InvalidInputError):
    """The file is not a concept in safetensors format."""

    code = "invalid_artifact"


class ModelMismatchError(InvalidInputError):
    """The concept belongs to another base model."""

    code = "model_mismatch"


class InvalidCheckpointError(ZoodipError):
    """The checkpoint is unreadable, or belongs to another personalization."""

    code = "invalid_checkpoint"


class LossNotFiniteError(ZoodipError):
    """The loss became NaN or infinite, so the search stopped."""

    code = "loss_not_finite"


class ImageNotFiniteError(ZoodipError):
    """The base model produced NaN or infinite values instead of an image."""

    code = "image_not_finite"


class ContentFilteredError(ZoodipError):
    """The safety checker of the base model flagged the image, so it is withheld."""

    code = "content_filtered"


class OutOfMemoryError(ZoodipError):
    """Not even one row fits in the memory of the device."""

    code = "out_of_memory"
    retryable = True


class StorageError(ZoodipError):
    """A file could not be written."""

    code = "storage_failed"
    retryable = True


class InterruptedSearchError(ZoodipError):
    """The search was interrupted; its checkpoint is saved."""

    code = "interrupted"
    retryable = True
