"""Messages for requests that do not match a schema name the field, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.requests.bodies import GenerationRequest, PersonalizationRequest
from api.validation_messages import field_of, message_of


def _messages(model: type[GenerationRequest | PersonalizationRequest], body: object) -> list[tuple[Any, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    found = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    return [(field_of(error), message_of(error)) for error in found]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt: got ''; expected text with at least 1 character"),
        ({"n": 0}, "n: got 0; expected a number greater than or equal to 1"),
        ({"n": "x"}, "n: got 'x'; expected a valid integer"),
        ({"n": 1e308}, "n: got 1e+308; expected an integer"),
        ({"n": "9" * 5000}, f"n: got '{'9' * 199}…; expected an integer"),
        ({"steps": 1.5}, "steps: got 1.5; expected a valid integer"),
        ({"guidance_scale": 101}, "guidance_scale: got 101; expected a number less than or equal to 100"),
        ({"scheduler": 5}, "scheduler: got 5; expected text"),
        ({"metadata": [1, 2]}, "metadata: got a list with 2 items; expected an object"),
        (
            {"metadata": {f"k{n}": "v" for n in range(17)}},
            "metadata: got an object with 17 items; expected an object with at most 16 items",
        ),
        ({"seeed": 1}, "seeed: got an unknown field; expected a field of the schema"),
    ],
)
def test_message_has_value_and_expectation(fields: dict[str, Any], message: str) -> None:
    """Messages of Pydantic become "<field>: got <value>; expected <what is allowed>"."""
    assert _messages(GenerationRequest, {"prompt": "a dog", **fields}) == [
        (message.partition(":")[0], message)
    ]


def test_message_names_a_missing_field() -> None:
    """A missing field and a body of another type have clear messages."""
    assert _messages(PersonalizationRequest, {"token": "<a>"}) == [
        ("initializer", "initializer: got nothing; expected a value")
    ]
    assert _messages(GenerationRequest, "x") == [(None, "request: got 'x'; expected an object")]


def test_message_lists_the_allowed_words() -> None:
    """For a closed set of words, the message lists them."""
    body = {"token": "<a>", "initializer": "dog", "kind": "person", "captions": ["a <a>", ""]}
    assert [message for _, message in _messages(PersonalizationRequest, body)] == [
        "kind: got 'person'; expected 'object' or 'style'",
        "captions.1: got ''; expected text with at least 1 character",
    ]


def test_message_does_not_repeat_text_that_cannot_be_stored() -> None:
    """The message for NUL and unpaired surrogates describes the text instead of repeating it."""
    for text in ("\x00", "\ud800"):
        ((field, message),) = _messages(GenerationRequest, {"prompt": text})
        assert field is None
        assert message == (
            "request: got text with a NUL character or an unpaired surrogate; expected text without them"
        )
