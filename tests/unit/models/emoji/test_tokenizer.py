"""The tokenizer: every caption word is one token in transformers' CLIPTokenizer."""

import random
import string
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from models.emoji.compose import scene_of_seed
from models.emoji.tokenizer import (
    END,
    MAX_TOKENS,
    WORD_END,
    apply_merges,
    build_merges,
    build_vocabulary,
    word_ids,
    write_tokenizer,
)
from models.emoji.world import shipped_world


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the exported tokenizer, loaded by transformers."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, shipped_world().words)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_word_is_one_token(tokenizer: Any) -> None:
    """The tokenizer returns a single token for each caption word."""
    for word in shipped_world().words:
        assert tokenizer.tokenize(word) == [word + WORD_END]


def test_captions_encode_as_in_training(tokenizer: Any) -> None:
    """`word_ids` equals the tokenizer's ids, including padding."""
    world = shipped_world()
    captions = [scene_of_seed(seed, world)[1] for seed in range(300)]
    found = tokenizer(captions, padding="max_length").input_ids
    assert found == word_ids(captions, build_vocabulary(world.words))
    assert all(len(row) == MAX_TOKENS for row in found)


def test_the_end_token_is_not_the_one_that_changes_pooling(tokenizer: Any) -> None:
    """The end token is not 2, because transformers would then pool at the largest id."""
    assert tokenizer.eos_token_id != 2
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == MAX_TOKENS
    assert tokenizer.eos_token == END


def test_an_unknown_word_becomes_pieces(tokenizer: Any) -> None:
    """An unknown word is split into known pieces and not dropped."""
    assert len(tokenizer.tokenize("zebra")) > 1
    assert END not in tokenizer.tokenize("Über!")


@pytest.mark.parametrize("seed", range(5))
def test_any_word_list_gives_single_tokens(seed: int) -> None:
    """The merges join each of many random words with shared pieces to one token."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(string.ascii_lowercase[:4], k=rng.randint(1, 7))) for _ in range(300)]
    ranks = {pair: rank for rank, pair in enumerate(build_merges(words))}
    for word in words:
        assert apply_merges(word, ranks) == [word + WORD_END]


def test_merges_are_written_in_order(tmp_path: Path) -> None:
    """The merges file starts with the version and keeps the order of priority."""
    write_tokenizer(tmp_path, ["abc", "abd"])
    lines = (tmp_path / "merges.txt").read_text().splitlines()
    assert lines[0].startswith("#version")
    assert lines[1:] == [f"{left} {right}" for left, right in build_merges(["abc", "abd"])]
