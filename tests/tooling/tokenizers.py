"""Writers of CLIP tokenizer folders in which each given word is one token."""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_characters() -> list[str]:
    """Return the 256 printable characters that represent bytes, in the order of CLIP's vocabulary, "!" first."""
    spans = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [byte for first, last in spans for byte in range(ord(first), ord(last) + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def _pieces(word: str, merges: Sequence[tuple[str, str]]) -> list[str]:
    """Return the pieces of a word after byte-pair encoding; earlier merges take precedence."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    rank = {pair: index for index, pair in enumerate(merges)}
    while pairs := [pair for pair in itertools.pairwise(pieces) if pair in rank]:
        left, right = min(pairs, key=rank.__getitem__)
        merged: list[str] = []
        for piece in pieces:
            if merged and merged[-1] == left and piece == right:
                merged[-1] = left + right
            else:
                merged.append(piece)
        pieces = merged
    return pieces


def merges_of_words(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return merges that make each word one token.

    Merges of later words are appended, so they cannot split an earlier word.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        while len(pieces := _pieces(word, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    return merges


def vocabulary_of_words(words: Sequence[str]) -> dict[str, int]:
    """Return the id of each token in CLIP's order: bytes, bytes at the end of a word, merges, start, end."""
    characters = byte_characters()
    joined = dict.fromkeys(left + right for left, right in merges_of_words(words))
    tokens = [*characters, *(character + WORD_END for character in characters), *joined, START, END]
    return {token: index for index, token in enumerate(tokens)}


def write_tokenizer(folder: Path, words: Sequence[str], *, pad_token: str = END, length: int = 77) -> int:
    """Write vocab.json, merges.txt and the configuration; return the size of the vocabulary.

    Args:
        folder: Destination; created if it does not exist.
        words: Words that are one token each.
        pad_token: Token that fills short texts.
        length: Maximum number of tokens of a text.
    """
    vocabulary = vocabulary_of_words(words)
    _write(folder, vocabulary, merges_of_words(words), pad_token=pad_token, length=length)
    return len(vocabulary)


def write_real_tokenizer(folder: Path) -> int:
    """Write the tokenizer of SD1.5; return the size of its vocabulary, 49,408.

    The vocabulary is a file of the package open_clip_torch, which is not imported.
    """
    found = importlib.util.find_spec("open_clip")
    assert found is not None, "open_clip_torch is not installed; run `make setup`"
    assert found.submodule_search_locations is not None
    archive = Path(found.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(archive.read_bytes()).decode().splitlines()[1 : 49152 - 256 - 2 + 1]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    characters = byte_characters()
    joined = [left + right for left, right in merges]
    tokens = [*characters, *(character + WORD_END for character in characters), *joined, START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    _write(folder, vocabulary, merges, pad_token=END, length=77)
    return len(vocabulary)


def _write(
    folder: Path,
    vocabulary: dict[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    pad_token: str,
    length: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = "\n".join(f"{left} {right}" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    names = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad_token}
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=2))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
