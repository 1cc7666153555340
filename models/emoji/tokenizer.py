"""A CLIP tokenizer in which every caption word is one token.

The merges are built word by word. Existing merges are applied to the word first; then merges of lower priority join
the remaining pieces. Merges added for later words never apply to an earlier word, because at each step one of the
merges for that word has a higher priority. So every word stays one token.
"""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from models.emoji.compose import CAPTION_WORDS

Pair = tuple[str, str]
MAX_TOKENS = CAPTION_WORDS + 2
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def byte_alphabet() -> list[str]:
    """Return the 256 printable characters that byte-level BPE uses for bytes (GPT-2's table)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


def apply_merges(word: str, ranks: dict[Pair, int]) -> list[str]:
    """Return the pieces of a word after all merges."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    while True:
        ranked = [(ranks[pair], pair) for pair in pairwise(pieces) if pair in ranks]
        if not ranked:
            return pieces
        left, right = min(ranked)[1]
        joined: list[str] = []
        for piece in pieces:
            if joined and (joined[-1], piece) == (left, right):
                joined[-1] = left + right
            else:
                joined.append(piece)
        pieces = joined


def build_merges(words: Iterable[str]) -> list[Pair]:
    """Return merges, highest priority first, that make each word one token."""
    ranks: dict[Pair, int] = {}
    for word in words:
        pieces = apply_merges(word, ranks)
        while len(pieces) > 1:
            ranks[pieces[0], pieces[1]] = len(ranks)
            pieces = apply_merges(word, ranks)
    return list(ranks)


def build_vocabulary(words: Sequence[str]) -> dict[str, int]:
    """Return ids by token in CLIP's order: bytes, bytes at the end of a word, merges, begin, end."""
    alphabet = byte_alphabet()
    tokens = alphabet + [letter + WORD_END for letter in alphabet]
    tokens += [left + right for left, right in build_merges(words)]
    tokens += [BEGIN, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """Write a folder that `CLIPTokenizer.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = "".join(f"{left} {right}\n" for left, right in build_merges(words))
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    files = {
        "vocab.json": json.dumps(build_vocabulary(words), ensure_ascii=False, indent=0),
        "merges.txt": f"#version: 0.2\n{merges}",
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def word_ids(captions: Iterable[str], vocabulary: dict[str, int]) -> list[list[int]]:
    """Return the ids of captions, padded with the end token to `MAX_TOKENS`.

    The result equals the tokenizer's, but skips BPE. Every word must be in the vocabulary.
    """
    begin, end = vocabulary[BEGIN], vocabulary[END]
    rows = ([begin, *(vocabulary[word + WORD_END] for word in text.split()), end] for text in captions)
    return [row + [end] * (MAX_TOKENS - len(row)) for row in rows]
