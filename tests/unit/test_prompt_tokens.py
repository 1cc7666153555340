"""Tokens in prompts: other spellings, ordinary words, and text that looks like a token and is none."""

from __future__ import annotations

import pytest

from tests.tooling.models import WORDS
from tests.tooling.tokenizers import write_tokenizer
from zoodip_core.base_models.vocabulary import Vocabulary, vocabulary
from zoodip_core.errors import UnknownTokenError
from zoodip_core.prompt_tokens import (
    bracket_names,
    candidate_tokens,
    normalized_token,
    read_prompt,
    token_of_file_name,
    unused_concepts,
)

KNOWN = ("<cat>", "<my-dog>", "<zwx>")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """Return a vocabulary with `dog` and `cat`, and without `zwx` and `my`."""
    folder = tmp_path_factory.mktemp("words")
    write_tokenizer(folder / "tokenizer", WORDS)
    return vocabulary(folder)


def test_exact_tokens_need_no_warning() -> None:
    """The text stays as it is, and the tokens are listed in order, each once."""
    reading = read_prompt("a <my-dog>, <cat><cat> \n", KNOWN, field="prompt")
    assert reading.text == "a <my-dog>, <cat><cat> \n"
    assert reading.tokens == ("<my-dog>", "<cat>")
    assert reading.warnings == ()


@pytest.mark.parametrize(
    "spelling",
    [
        "<Cat>",
        "<CAT>",
        "< cat >",
        "<cat\n>",
        "<cat",
        "<Cat",
        "cat>",
        "<<cat>>",
        "&lt;cat&gt;",
        "&LT;Cat&GT;",
        "&amp;lt;cat&amp;gt;",
        "&#60;cat&#x3E;",
        "\\<cat\\>",
        "&ltcat&gt",
        "%3Ccat%3E",
        "%3ccat%3e",
        "\\u003ccat\\u003e",
        "\\x3Ccat\\x3E",
        "\uff1ccat\uff1e",
        "\ufe64cat\ufe65",
        "<\uff43\uff41\uff54>",
        "<\u200bcat\ufeff>",
        "<c\u00adat>",
    ],
)
@pytest.mark.parametrize("around", ["{}", "a photo of a {} in the snow", "({}:1.2), I <3 it -> b"])
def test_other_spellings_are_corrected(spelling: str, around: str) -> None:
    """The text gets the token, and one warning shows how the spelling was read."""
    reading = read_prompt(around.format(spelling), KNOWN, field="negative_prompt")
    assert reading.text == around.format("<cat>")
    assert reading.tokens == ("<cat>",)
    (warning,) = reading.warnings
    assert (warning.code, warning.field) == ("spelling_corrected", "negative_prompt")
    assert warning.message == f"{spelling!r} is read as the token <cat>"


def test_spaces_inside_a_token_are_hyphens() -> None:
    """A space cannot be a part of a token, so `<My Dog>` can only mean `<my-dog>`."""
    assert read_prompt("a <My Dog>", KNOWN, field="prompt").text == "a <my-dog>"


@pytest.mark.parametrize("dash", ["\u2010", "\u2011", "\u2013", "\u2014", "\u2212"])
def test_dashes_of_word_processors_are_hyphens(dash: str) -> None:
    """No token contains another dash, so `<my\u2013dog>` can only mean `<my-dog>`."""
    reading = read_prompt(f"a <my{dash}dog>", KNOWN, field="prompt")
    assert (reading.text, len(reading.warnings)) == ("a <my-dog>", 1)


@pytest.mark.parametrize(
    ("text", "got", "hint"),
    [
        ("a <*> on a beach", "<*>", ""),
        ("a <\U0001f436>", "<\U0001f436>", ""),
        ("a <house>", "<house>", ""),
        ("a <my-dgo>", "<my-dgo>", "; did you mean <my-dog>?"),
        ("a <my_dog>", "<my_dog>", "; did you mean <my-dog>?"),
        ("a < caat >", "< caat >", "; did you mean <cat>?"),
        ("a <caat in the snow", "<caat", "; did you mean <cat>?"),
        ("a caat> in the snow", "caat>", "; did you mean <cat>?"),
        ("a <Beach>", "<Beach>", ""),
        ("&lt;caat&gt;", "&lt;caat&gt;", "; did you mean <cat>?"),
        ("a <c\u00e4t>", "<c\u00e4t>", "; did you mean <cat>?"),
        ("a <lora:style:0.8>", "<lora:style:0.8>", ""),
        ("a <|endoftext|>", "<|endoftext|>", ""),
        ("a <b>bold</b> dog", "<b>", ""),
    ],
)
def test_text_that_looks_like_a_token_and_is_none(text: str, got: str, hint: str) -> None:
    """The error names the text, what is expected and similar tokens."""
    with pytest.raises(UnknownTokenError) as error:
        read_prompt(text, KNOWN, field="prompt", expected="a token")
    assert error.value.message == f"prompt: got {got}; expected a token{hint}"
    assert error.value.field == "prompt"


@pytest.mark.parametrize(
    "text", ["I <3 this", "a -> b => c", ">_<", "I <3 a -> b", "5 < 6, 7 > 6", "<>", "< >", "<-", "(a:1.2)"]
)
def test_lone_brackets_are_plain_text(text: str) -> None:
    """Arrows, comparisons of numbers and emoticons stay as they are."""
    reading = read_prompt(text, KNOWN, field="prompt")
    assert (reading.text, reading.tokens, reading.warnings) == (text, (), ())


def test_a_word_of_the_base_model_stays_a_word(words: Vocabulary) -> None:
    """`cat` is an ordinary word, so the token <cat> is unused, and the warning says how to write it."""
    reading = read_prompt("a Cat in the snow", KNOWN, field="prompt", vocabulary=words)
    assert (reading.text, reading.tokens, reading.warnings) == ("a Cat in the snow", (), ())
    (warning,) = unused_concepts(["<cat>"], [reading])
    assert (warning.code, warning.field) == ("concept_unused", "prompt")
    assert warning.message == (
        "the prompt does not contain <cat> and reads 'cat' as an ordinary word; write <cat> to draw the concept"
    )


def test_a_word_that_the_base_model_lacks_is_the_token(words: Vocabulary) -> None:
    """`zwx` means nothing else. Without a vocabulary nothing is known about it, so it stays a word."""
    reading = read_prompt("a ZWX by a zwx-cat", KNOWN, field="prompt", vocabulary=words)
    assert reading.text == "a <zwx> by a zwx-cat"
    assert [warning.code for warning in reading.warnings] == ["spelling_corrected"]
    assert read_prompt("a zwx", KNOWN, field="prompt").words == {"<zwx>"}


def test_concepts_that_no_prompt_uses() -> None:
    """A token is used if any prompt of the request contains it."""
    readings = [read_prompt(text, KNOWN, field="prompt") for text in ("a <cat>", "a <zwx>")]
    assert [warning.message for warning in unused_concepts(KNOWN, readings)] == [
        "the prompt does not contain <my-dog>"
    ]


def test_candidates_cover_all_that_can_be_read() -> None:
    """Every spelling that `read_prompt` corrects gives its token as a candidate."""
    found = candidate_tokens("A Cat by <My Dog>, &lt;x&gt;, zwx-1 and <3")
    assert {"<cat>", "<my-dog>", "<x>", "<zwx-1>"} <= found


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("<Cat-Toy>", "<cat-toy>"),
        ("Cat Toy", "<cat-toy>"),
        ("<cat-toy>", "<cat-toy>"),
        ("*", None),
        ("a.b", None),
        ("", None),
        ("x" * 64, None),
    ],
)
def test_normalized_tokens(name: str, token: str | None) -> None:
    """Case, brackets and spaces are normalized; other characters are no part of a token."""
    assert normalized_token(name) == token


@pytest.mark.parametrize(
    ("stem", "token"),
    [
        ("my-dog", "<my-dog>"),
        ("Style_v1.2 (1)", "<style_v1-2-1>"),
        ("-x-", "<x>"),
        ("\u732b", None),
        ("", None),
    ],
)
def test_tokens_of_file_names(stem: str, token: str | None) -> None:
    """Characters that a token cannot contain become hyphens."""
    assert token_of_file_name(stem) == token


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a dog, (Dog:1.2)", "a <dog>, (<dog>:1.2)"),
        ("my-dog and <dog> and < My-Dog >", "<my-dog> and <dog> and < My-Dog >"),
        ("dogs hot-dog dog-house", "dogs hot-dog dog-house"),
        ("", ""),
    ],
)
def test_bare_names_get_brackets(text: str, read: str) -> None:
    """Names of tokens get brackets, also ordinary words; longer words and spellings with brackets stay."""
    assert bracket_names(text, ["<dog>", "<my-dog>"]) == read
