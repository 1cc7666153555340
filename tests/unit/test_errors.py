"""Errors of zoodip: message, field and code."""

from __future__ import annotations

from zoodip_core.errors import InvalidCaptionError, InvalidTokenError


def test_a_mismatch_names_field_value_and_expectation() -> None:
    """The message has the standard form for a bad value."""
    error = InvalidTokenError.mismatch("token", got=repr("Dog"), expected="<name>")
    assert error.message == "token: got 'Dog'; expected <name>"
    assert (error.field, error.code) == ("token", "invalid_token")


def test_an_index_is_in_the_message_only() -> None:
    """The field is the name of the list, so that clients can match it with the request."""
    error = InvalidCaptionError.mismatch("captions[2]", got="''", expected="text")
    assert error.message.startswith("captions[2]: ")
    assert error.field == "captions"


def test_a_long_value_is_cut() -> None:
    """The message contains only the start of a long value."""
    message = InvalidTokenError.mismatch("token", got="x" * 5000, expected="<name>").message
    assert len(message) < 300
