"""Excluded phrases: case, punctuation and articles do not matter, and a line without words is refused."""

import pytest

from zoodip_core.calibration.excluded_phrases import parse_excluded
from zoodip_core.errors import InvalidInputError


@pytest.mark.parametrize(
    "line", ["Red FOX", "red fox,", "a red fox", "The “red” fox.", "  red-fox ", "\ufeffred fox", "red_fox"]
)
def test_spelling_does_not_matter(line: str) -> None:
    """Every spelling excludes the words that the calibration's list has."""
    assert parse_excluded([line]) == ("red fox",)


def test_each_line_is_a_phrase() -> None:
    """The order stays, and empty lines are left out."""
    assert parse_excluded(["Bear", "", "  ", "an owl", "by a brick wall"]) == ("bear", "owl", "by brick wall")


@pytest.mark.parametrize("line", ["The", "a an", "---", "?!"])
def test_a_line_without_words_is_named(line: str) -> None:
    """It would exclude everything, or nothing."""
    with pytest.raises(InvalidInputError) as caught:
        parse_excluded(["fox", "", f" {line} "])
    assert (
        caught.value.message == f"exclude: got {line!r} in line 3; expected a word other than a, an and the"
    )
    assert caught.value.field == "exclude"
