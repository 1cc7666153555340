"""The vocabulary of a base model's CLIP tokenizer: which text is a single token, which names are free. No torch."""

from __future__ import annotations

import bisect
import functools
import heapq
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from zoodip_core.errors import InvalidInitializerError, InvalidModelError, InvalidTokenError
from zoodip_core.input_warnings import InputWarning, WarningCode

TOKEN_PATTERN = re.compile(r"<[a-z0-9][a-z0-9_-]{0,62}>")
_TOKEN_RULE = "<name>: 1-63 characters from a-z, 0-9, _ and -, starting with a letter or digit"  # noqa: S105
WORD_END = "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a CLIP tokenizer: byte-pair encoding of lower-case text with `</w>` at the end of a word.

    Attributes:
        tokenizer: the tokenizer without added tokens.
        added: tokens that are matched before the text is split, such as special tokens and other concepts.
    """

    tokenizer: Tokenizer
    added: frozenset[str]

    def split(self, text: str) -> tuple[str, ...]:
        """Return the tokens of the text, as the vocabulary spells them."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).tokens)

    def words_with_prefix(self, prefix: str, limit: int) -> list[str]:
        """Return at most `limit` words of letters that start with the prefix, most frequent first."""
        start = prefix.lower()
        first = bisect.bisect_left(self._letter_words, (start, -1))
        found = itertools.takewhile(lambda word: word[0].startswith(start), self._letter_words[first:])
        return [word for word, _ in heapq.nsmallest(limit, found, key=lambda word: word[1])]

    @functools.cached_property
    def _letter_words(self) -> list[tuple[str, int]]:
        """Words of ASCII letters with their ids, in alphabetical order. The ids of a vocabulary follow frequency."""
        spelled = (
            (token.removesuffix(WORD_END), token, i) for token, i in self.tokenizer.get_vocab().items()
        )
        return sorted((w, i) for w, token, i in spelled if w != token and w.isascii() and w.isalpha())

    def character_positions(self, text: str) -> list[int]:
        """Return where each token of the text starts, in characters."""
        return [start for start, _ in self.tokenizer.encode(text, add_special_tokens=False).offsets]

    def is_word(self, text: str) -> bool:
        """Return whether the text is a single token already."""
        return text in self.added or self.single_token_id(text) is not None

    def single_token_id(self, word: str) -> int | None:
        """Return the id of the word if it is a single token, else None."""
        ids = self.word_ids(word)
        return ids[0] if ids is not None and len(ids) == 1 else None

    def word_ids(self, text: str) -> tuple[int, ...] | None:
        """Return the ids of the words of a text, or None if a word is not a single token or there is none.

        Digits and punctuation marks count as words, as in the tokenizer.
        """
        ids = self.token_ids(text)
        return ids if ids is not None and len(ids) == len(self._words(text)) else None

    def token_ids(self, text: str) -> tuple[int, ...] | None:
        """Return the ids of a text, or None if it is empty, or has added tokens or unknown characters."""
        if not self.added.isdisjoint(text.split()):
            return None
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        spelled = "".join(token.removesuffix(WORD_END) for token in encoding.tokens)
        if not encoding.ids or spelled != "".join(self._words(text)):
            return None  # the token for unknown characters is spelled in another way
        return tuple(encoding.ids)

    def _words(self, text: str) -> list[str]:
        normal = self.tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


@functools.lru_cache(maxsize=16)  # reading CLIP's vocabulary takes 0.25 s
def vocabulary(folder: Path, part: str = "tokenizer") -> Vocabulary:
    """Read the vocabulary of a pipeline folder.

    Like transformers, it reads `tokenizer.json` if it exists, else `vocab.json` and `merges.txt`.

    Args:
        folder: the pipeline folder.
        part: folder of the tokenizer in it; SDXL also has `tokenizer_2`.

    Raises:
        InvalidModelError: a file is missing or damaged.
    """
    place = folder / part
    try:
        tokenizer_json = place / "tokenizer.json"
        ids, merges, added = (
            _read_tokenizer_json(tokenizer_json)
            if tokenizer_json.is_file()
            else _read_vocab_and_merges(place)
        )
        bracketed = {token for token in ids if re.fullmatch(r"<[^<>]+>", token)}
        return Vocabulary(_clip_tokenizer(ids, merges), frozenset(added | bracketed))
    except OSError as error:
        raise InvalidModelError(f"base_model: cannot read {error.filename}: {error.strerror}") from error
    except Exception as error:  # tokenizers raises plain Exception for inconsistent merges
        raise InvalidModelError(f"base_model: {place} contains no CLIP vocabulary: {error}") from error


def check_token_format(token: str) -> None:
    """Validate the spelling of a placeholder token.

    Raises:
        InvalidTokenError: the token is malformed.
    """
    if not TOKEN_PATTERN.fullmatch(token):
        raise InvalidTokenError.mismatch("token", got=repr(token), expected=_TOKEN_RULE)


def check_token(token: str, vocabulary: Vocabulary) -> None:
    """Validate a placeholder token: well-formed, and not in the base model's vocabulary.

    Raises:
        InvalidTokenError: the token is malformed, or a word of the vocabulary.
    """
    if vocabulary.is_word(token):
        raise InvalidTokenError.mismatch(
            "token", got=f"{token!r}, which is a word of the base model", expected=_TOKEN_RULE
        )
    check_token_format(token)


def check_initializer(text: str, vocabulary: Vocabulary, vectors: int) -> list[InputWarning]:
    """Validate an initializer: one token for all vectors, one token for each vector, or the mean for one vector.

    Returns:
        A warning if a word has several tokens, or if the search starts from a mean.

    Raises:
        InvalidInitializerError: the base model has no such text, or the number of tokens does not fit.
    """
    parts = " + ".join(repr(part.removesuffix(WORD_END)) for part in vocabulary.split(text))
    ids = vocabulary.token_ids(text)
    if ids is None:
        raise InvalidInitializerError.mismatch(
            "initializer", got=repr(text), expected="words of the base model, without special tokens"
        )
    if vectors > 1 and len(ids) not in (1, vectors):
        raise InvalidInitializerError.mismatch(
            "initializer",
            got=f"{text!r}, which has {len(ids)} tokens: {parts}",
            expected=f"one token for all vectors, vectors={len(ids)} for one vector each, or vectors=1 for "
            "their mean",
        )
    if len(ids) == 1 or (len(ids) == vectors and vocabulary.word_ids(text) is not None):
        return []
    start = "the mean of their embeddings" if vectors == 1 else "one of them for each vector"
    message = f"{text!r} has the tokens {parts}; the search starts from {start}"
    return [InputWarning(WarningCode.INITIALIZER_SPLIT, "initializer", message)]


def _read_tokenizer_json(file: Path) -> tuple[dict[str, int], list[tuple[str, str]], set[str]]:
    stored = json.loads(file.read_text(encoding="utf-8"))
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in stored["model"]["merges"])
    added = {token["content"] for token in stored.get("added_tokens", [])}
    return stored["model"]["vocab"], [(left, right) for left, right in pairs], added


def _read_vocab_and_merges(place: Path) -> tuple[dict[str, int], list[tuple[str, str]], set[str]]:
    ids = json.loads((place / "vocab.json").read_text(encoding="utf-8"))
    lines = (place / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#version"))
    added: set[str] = set()
    for name in ("added_tokens.json", "special_tokens_map.json"):
        if (place / name).is_file():
            added |= _added_tokens(json.loads((place / name).read_text(encoding="utf-8")), name)
    return ids, [(pair[0], pair[1]) for pair in pairs if len(pair) == 2], added


def _added_tokens(stored: dict[str, Any], name: str) -> set[str]:
    """Return the tokens of added_tokens.json (token → id) or special_tokens_map.json (role → token)."""
    if name == "added_tokens.json":
        return set(stored)
    roles = [value for role in stored.values() for value in (role if isinstance(role, list) else [role])]
    return {value["content"] if isinstance(value, dict) else value for value in roles}


def _clip_tokenizer(ids: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """Build a tokenizer with the splitting rules of transformers' CLIPTokenizer."""
    unknown = "<|endoftext|>" if "<|endoftext|>" in ids else None
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, end_of_word_suffix=WORD_END, unk_token=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
