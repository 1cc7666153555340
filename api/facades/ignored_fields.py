"""Warnings about fields of another API that have no effect here."""

from __future__ import annotations

from zoodip_core.input_warnings import InputWarning, WarningCode

_MAX_NAME = 100


def ignored(field: str, reason: str = "this service has no such feature") -> InputWarning:
    """Return the warning about a field without effect.

    Args:
        field: name of the field, as the client sends it.
        reason: why it has no effect.
    """
    name = field[:_MAX_NAME]
    return InputWarning(WarningCode.FIELD_IGNORED, name, f"{name} has no effect: {reason}")
