"""Compatibility of concepts with base models: the same weights, or other weights of the same width on request."""

from __future__ import annotations

from zoodip_core.artifact import Concept
from zoodip_core.errors import ModelMismatchError
from zoodip_core.input_warnings import InputWarning, WarningCode


def check_compatible(
    concept: Concept,
    fingerprint: str,
    widths: tuple[int, ...],
    *,
    weights_fingerprint: str | None = None,
    allow_mismatch: bool = False,
) -> InputWarning | None:
    """Validate that a concept belongs to a base model: the same files, or the same weights in other files.

    Args:
        concept: without a fingerprint, only its widths are compared.
        fingerprint: fingerprint of the base model's files.
        widths: embedding widths of the base model's text encoders, in order; each family has others.
        weights_fingerprint: fingerprint of its weights in any layout and half precision; None compares files only.
        allow_mismatch: whether another model of the same widths, such as a fine-tune, gives a warning instead.

    Returns:
        A warning if the concept was learned on other weights, else None.

    Raises:
        ModelMismatchError: the widths or fingerprints differ; the message names both.
    """
    if concept.widths != tuple(widths):
        raise ModelMismatchError.mismatch(
            "concept",
            got=f"{concept.token} of width {_join_widths(concept.widths)}",
            expected=f"width {_join_widths(widths)} of the base model",
        )
    has_same_weights = None not in (weights_fingerprint, concept.weights_fingerprint) and (
        weights_fingerprint == concept.weights_fingerprint
    )
    if concept.fingerprint in (None, fingerprint) or has_same_weights:
        return None
    origin = f"{concept.base_model or 'another base model'} ({concept.fingerprint})"
    if allow_mismatch:
        message = (
            f"{concept.token} was learned on {origin}; it may draw its subject less exactly on other weights"
        )
        return InputWarning(WarningCode.MODEL_MISMATCH, "concept", message)
    raise ModelMismatchError.mismatch(
        "concept",
        got=f"{concept.token} of {origin}",
        expected=f"the base model {fingerprint}; allow_model_mismatch accepts another one of the same width",
    )


def _join_widths(widths: tuple[int, ...]) -> str:
    return " + ".join(str(width) for width in widths)
