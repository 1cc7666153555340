"""The vocabulary of the published Stable Diffusion models, not only small ones of our own."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.tooling.tokenizers import write_real_tokenizer
from zoodip_core.base_models.vocabulary import Vocabulary, check_initializer, check_token, vocabulary
from zoodip_core.errors import InvalidInitializerError, InvalidTokenError
from zoodip_core.personalization.captions import TEMPLATES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder that holds nothing but SD1.5's tokenizer."""
    place = tmp_path_factory.mktemp("clip")
    assert write_real_tokenizer(place / "tokenizer") == 49_408
    return place


@pytest.fixture(scope="module")
def words(folder: Path) -> Vocabulary:
    """Its words."""
    return vocabulary(folder)


def test_ids_are_those_of_clip(folder: Path) -> None:
    """The folder is read by transformers, and "a photo of a cat" has the ids that CLIP is known for."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize("word", ["dog", "Dog", "car", "monet", "sneaker", "backpack"])
def test_common_words_are_initializers(folder: Path, words: Vocabulary, word: str) -> None:
    """A word that is one token for us is the same one token for transformers."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    assert tokenizer(word, add_special_tokens=False).input_ids == [check_initializer(word, words)]


def test_two_words_are_no_initializer(words: Vocabulary) -> None:
    """The message shows how the text splits."""
    with pytest.raises(InvalidInitializerError, match="'shiny' \\+ 'sneaker'"):
        check_initializer("shiny sneaker", words)


def test_tokens(words: Vocabulary) -> None:
    """A bracketed name is free; a plain word is taken."""
    check_token("<my-dog>", words)
    with pytest.raises(InvalidTokenError, match="word of the base model"):
        check_token("dog", words)


def test_templates_are_made_of_whole_words(words: Vocabulary) -> None:
    """Every word of the built-in captions is one token of CLIP."""
    for sentence in (*TEMPLATES["object"], *TEMPLATES["style"]):
        for word in sentence.replace("{}", "dog").split():
            assert words.single_token_id(word) is not None, word
