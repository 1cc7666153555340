"""The tokenizer: every word of the world is one token, in transformers' own CLIPTokenizer too."""

import random
import string
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from models.emoji.compose import sampled_scene
from models.emoji.tokenizer import (
    END,
    MAX_TOKENS,
    WORD_END,
    build_merges,
    build_vocabulary,
    merged,
    word_ids,
    write_tokenizer,
)
from models.emoji.world import shipped_world


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The exported tokenizer, read by transformers."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, shipped_world().words)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_word_is_one_token(tokenizer: Any) -> None:
    """Each word of the world becomes begin, its own token, end."""
    for word in shipped_world().words:
        assert tokenizer.tokenize(word) == [word + WORD_END]


def test_captions_encode_as_in_training(tokenizer: Any) -> None:
    """The quick ids of the training equal the tokenizer's, padding included."""
    world = shipped_world()
    captions = [sampled_scene(seed, world)[1] for seed in range(300)]
    found = tokenizer(captions, padding="max_length").input_ids
    assert found == word_ids(captions, build_vocabulary(world.words))
    assert all(len(row) == MAX_TOKENS for row in found)


def test_the_end_token_is_not_the_one_that_changes_pooling(tokenizer: Any) -> None:
    """Transformers pools at the largest id when the end token is 2, so it must be another."""
    assert tokenizer.eos_token_id != 2
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == MAX_TOKENS
    assert tokenizer.eos_token == END


def test_an_unknown_word_becomes_pieces(tokenizer: Any) -> None:
    """A word outside the world is spelled in pieces that are in the vocabulary, not dropped."""
    assert len(tokenizer.tokenize("zebra")) > 1
    assert END not in tokenizer.tokenize("Über!")


@pytest.mark.parametrize("seed", range(5))
def test_any_word_list_gives_single_tokens(seed: int) -> None:
    """For random words, with many shared pieces, the built merges join each to one token."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(string.ascii_lowercase[:4], k=rng.randint(1, 7))) for _ in range(300)]
    ranks = {pair: rank for rank, pair in enumerate(build_merges(words))}
    for word in words:
        assert merged(word, ranks) == [word + WORD_END]


def test_merges_are_written_in_order(tmp_path: Path) -> None:
    """The merges file keeps the priority order, first line a version."""
    write_tokenizer(tmp_path, ["abc", "abd"])
    lines = (tmp_path / "merges.txt").read_text().splitlines()
    assert lines[0].startswith("#version")
    assert lines[1:] == [f"{left} {right}" for left, right in build_merges(["abc", "abd"])]
