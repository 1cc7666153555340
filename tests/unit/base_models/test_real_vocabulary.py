"""Tests with the CLIP vocabulary of the published Stable Diffusion models."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.tooling.tokenizers import write_real_tokenizer
from zoodip_core.base_models.vocabulary import Vocabulary, check_initializer, check_token, vocabulary
from zoodip_core.errors import InvalidTokenError
from zoodip_core.personalization.captions import TEMPLATES
from zoodip_core.prompt_tokens import read_prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pipeline folder that contains only SD1.5's tokenizer."""
    place = tmp_path_factory.mktemp("clip")
    assert write_real_tokenizer(place / "tokenizer") == 49_408
    return place


@pytest.fixture(scope="module")
def words(folder: Path) -> Vocabulary:
    """Return the vocabulary of SD1.5."""
    return vocabulary(folder)


def test_token_ids_match_clip(folder: Path) -> None:
    """The folder loads in transformers, and "a photo of a cat" has the ids of CLIP."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("word", ["dog", "Dog", "car", "monet", "sneaker", "backpack"])
def test_common_words_are_initializers(folder: Path, words: Vocabulary, word: str) -> None:
    """Each word is a single token with the same id as in transformers."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert tokenizer(word, add_special_tokens=False).input_ids == [words.single_token_id(word)]
    assert check_initializer(word, words, 1) == []


def test_two_words_start_two_vectors_or_one(words: Vocabulary) -> None:
    """Each of two vectors starts from one word; one vector starts from their mean, with a warning."""
    assert check_initializer("shiny sneaker", words, 2) == []
    (warning,) = check_initializer("shiny sneaker", words, 1)
    assert "'shiny' + 'sneaker'" in warning.message


@pytest.mark.parametrize(("name", "text"), [("my-dog", "my-dog"), ("sks", "sks"), ("zwxq-dog", "<zwxq-dog>")])
def test_names_without_brackets(words: Vocabulary, name: str, text: str) -> None:
    """A name of ordinary words stays text; a name that CLIP does not know is the token."""
    assert read_prompt(name, [f"<{name}>"], field="prompt", vocabulary=words).text == text


def test_a_bracketed_name_is_free_and_a_word_is_taken(words: Vocabulary) -> None:
    """Brackets keep a placeholder token out of the vocabulary."""
    check_token("<my-dog>", words)
    with pytest.raises(InvalidTokenError, match="word of the base model"):
        check_token("dog", words)


def test_templates_contain_only_single_token_words(words: Vocabulary) -> None:
    """Every word of the built-in captions is one token of CLIP."""
    for sentence in (*TEMPLATES["object"], *TEMPLATES["style"]):
        for word in sentence.replace("{}", "dog").split():
            assert words.single_token_id(word) is not None, word
