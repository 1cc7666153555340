"""Vocabulary: equal to transformers' CLIPTokenizer; validation of tokens and initializers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tests.tooling.models import WORDS
from tests.tooling.tokenizers import write_tokenizer
from zoodip_core.base_models.vocabulary import (
    Vocabulary,
    check_initializer,
    check_token,
    check_token_format,
    vocabulary,
)
from zoodip_core.errors import InvalidInitializerError, InvalidModelError, InvalidTokenError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pipeline folder that contains only a tokenizer."""
    place = tmp_path_factory.mktemp("words")
    write_tokenizer(place / "tokenizer", WORDS)
    return place


@pytest.fixture(scope="module")
def words(folder: Path) -> Vocabulary:
    """Return the vocabulary of the folder."""
    return vocabulary(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> CLIPTokenizer:
    """Return the tokenizer of transformers for the folder."""
    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=8), st.text("dogcat's <>3é❤ ", max_size=10))


@settings(max_examples=300, deadline=None)
@given(text=texts)
@example(text=" Dog ")
@example(text="don't")
@example(text="<|endoftext|>")
def test_single_token_id_matches_transformers(text: str, words: Vocabulary, reference: CLIPTokenizer) -> None:
    """The id is the same if transformers returns one ordinary token, and None otherwise."""
    ids = reference(text, add_special_tokens=False).input_ids
    ordinary = len(ids) == 1 and ids[0] not in reference.all_special_ids
    assert words.single_token_id(text) == (ids[0] if ordinary else None)


def test_tokenizer_json_of_transformers_is_read(folder: Path, tmp_path: Path, words: Vocabulary) -> None:
    """Version 5 of transformers writes only tokenizer.json, with the same words and the added tokens."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens(["<cat-toy>"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer" / "vocab.json").exists()
    saved = vocabulary(tmp_path)
    assert [saved.single_token_id(word) for word in WORDS] == [words.single_token_id(word) for word in WORDS]
    assert saved.is_word("<cat-toy>")
    assert not words.is_word("<cat-toy>")


def test_words_with_prefix_are_the_most_frequent_whole_words(words: Vocabulary) -> None:
    """Any case finds them; pieces inside words, punctuation and special tokens are no suggestions."""
    assert set(words.words_with_prefix("C", 50)) == {"c", "car", "cat", "close", "crab"}
    ids = [words.single_token_id(word) or 0 for word in words.words_with_prefix("c", 50)]
    assert ids == sorted(ids)
    assert words.words_with_prefix("c", 2) == words.words_with_prefix("c", 50)[:2]
    assert words.words_with_prefix("<", 50) == words.words_with_prefix("zz", 50) == []


def test_an_initializer_is_one_word_or_one_for_each_vector(words: Vocabulary) -> None:
    """One word fits any number of vectors, n words fit n vectors, and other numbers fit one vector only."""
    for text, vectors in (("dog", 1), ("dog", 4), (" Dog  cat", 2)):
        assert check_initializer(text, words, vectors) == []
    with pytest.raises(InvalidInitializerError) as error:
        check_initializer("dog cat", words, 3)
    assert error.value.message == (
        "initializer: got 'dog cat', which has 2 tokens: 'dog' + 'cat'; expected one token for all vectors, "
        "vectors=2 for one vector each, or vectors=1 for their mean"
    )
    assert error.value.field == "initializer"


@pytest.mark.parametrize(
    ("text", "vectors", "message"),
    [
        (
            "dog cat",
            1,
            "'dog cat' has the tokens 'dog' + 'cat'; the search starts from the mean of their embeddings",
        ),
        (
            "cats",
            1,
            "'cats' has the tokens 'ca' + 't' + 's'; the search starts from the mean of their embeddings",
        ),
        (
            "cats",
            3,
            "'cats' has the tokens 'ca' + 't' + 's'; the search starts from one of them for each vector",
        ),
    ],
)
def test_a_warning_shows_how_an_initializer_splits(
    words: Vocabulary, text: str, vectors: int, message: str
) -> None:
    """A word of several tokens is accepted, because it may be rare; the warning also shows a misspelled one."""
    (warning,) = check_initializer(text, words, vectors)
    assert (warning.code, warning.field, warning.message) == ("initializer_split", "initializer", message)


@pytest.mark.parametrize("text", ["", " ", "<|endoftext|>", "dog <|endoftext|>"])
def test_text_without_words_is_no_initializer(words: Vocabulary, text: str) -> None:
    """Empty text and special tokens have no embeddings to start from."""
    for vectors in (1, 2):
        with pytest.raises(InvalidInitializerError, match="expected words of the base model"):
            check_initializer(text, words, vectors)


@pytest.mark.parametrize("token", ["<a>", "<my-dog>", "<0_-x>", f"<{'a' * 63}>", "<dog>"])
def test_well_formed_tokens_pass(words: Vocabulary, token: str) -> None:
    """`<dog>` is free as well: with brackets it is not a word."""
    check_token(token, words)


@pytest.mark.parametrize(
    "token", ["", "<>", "my-dog", "<My-dog>", "<-a>", "<a b>", f"<{'a' * 64}>", "<a>\n", " <a>", "<ä>"]
)
def test_malformed_tokens_are_refused(token: str) -> None:
    """The message names the value and the rule."""
    with pytest.raises(InvalidTokenError, match="expected <name>: 1-63 characters from a-z") as error:
        check_token_format(token)
    assert error.value.field == "token"


@pytest.mark.parametrize("token", ["dog", "<|endoftext|>"])
def test_a_word_is_not_a_placeholder_token(words: Vocabulary, token: str) -> None:
    """A word of the base model cannot be the name of a concept."""
    with pytest.raises(InvalidTokenError, match="which is a word of the base model"):
        check_token(token, words)


def test_a_token_added_by_the_folder_is_taken(folder: Path, tmp_path: Path) -> None:
    """Folders of other trainers can add tokens in added_tokens.json or in the vocabulary."""
    write_tokenizer(tmp_path / "tokenizer", WORDS)
    (tmp_path / "tokenizer" / "added_tokens.json").write_text('{"<cat-toy>": 999}')
    with pytest.raises(InvalidTokenError, match="<cat-toy>"):
        check_token("<cat-toy>", vocabulary(tmp_path))


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({}, "cannot read .*vocab.json: No such file"),
        ({"vocab.json": "{}"}, "cannot read .*merges.txt"),
        ({"vocab.json": "[", "merges.txt": ""}, "contains no CLIP vocabulary"),
        ({"vocab.json": "{}", "merges.txt": "a b"}, "contains no CLIP vocabulary"),
        ({"tokenizer.json": '{"model": {}}'}, "contains no CLIP vocabulary"),
    ],
)
def test_a_broken_vocabulary_is_an_invalid_model(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    """The message names the file or the folder."""
    (tmp_path / "tokenizer").mkdir()
    for name, text in files.items():
        (tmp_path / "tokenizer" / name).write_text(text)
    with pytest.raises(InvalidModelError, match=fault):
        vocabulary(tmp_path)
