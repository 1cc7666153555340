"""The words of a base model's CLIP tokenizer: which text is one token, and which names are free. No torch."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from zoodip_core.errors import InvalidInitializerError, InvalidModelError, InvalidTokenError

TOKEN_PATTERN = re.compile(r"<[a-z0-9][a-z0-9_-]{0,62}>")
_TOKEN_RULE = "allowed: <name> with 1 to 63 of a–z, 0–9, _ and -, the first a letter or digit"  # noqa: S105
_WORD_END = "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a CLIP tokenizer: byte-pair encoding of lower-case text, `</w>` at the end of a word."""

    tokenizer: Tokenizer
    added: frozenset[str]  # tokens matched before the text is split: specials, and those of other concepts

    def split(self, text: str) -> tuple[str, ...]:
        """The tokens that the text falls into, as the vocabulary spells them."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).tokens)

    def is_word(self, text: str) -> bool:
        """Whether the text already means something by one token of its own."""
        return text in self.added or self.single_token_id(text) is not None

    def single_token_id(self, word: str) -> int | None:
        """The id of the one token that the word is, or None."""
        if word.strip() in self.added:
            return None
        encoding = self.tokenizer.encode(word, add_special_tokens=False)
        text = self.tokenizer.normalizer.normalize_str(word)
        pieces = [piece for piece, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        if len(pieces) != 1 or encoding.tokens != [pieces[0] + _WORD_END]:
            return None  # several tokens, none, or the one that stands for unknown characters
        return int(encoding.ids[0])


@functools.lru_cache(maxsize=16)  # CLIP's takes a quarter of a second
def vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of the pipeline folder's `tokenizer/`.

    `tokenizer.json` is read where there is one, as transformers does; else `vocab.json` and `merges.txt`.

    Raises:
        InvalidModelError: a file is missing or damaged.
    """
    place = folder / "tokenizer"
    try:
        whole = place / "tokenizer.json"
        ids, merges, added = _from_whole(whole) if whole.is_file() else _from_parts(place)
        bracketed = {token for token in ids if re.fullmatch(r"<[^<>]+>", token)}
        return Vocabulary(_clip_tokenizer(ids, merges), frozenset(added | bracketed))
    except OSError as error:
        raise InvalidModelError(f"base model: {error.filename} cannot be read: {error.strerror}") from error
    except Exception as error:  # tokenizers raises plain Exception for merges that do not fit
        raise InvalidModelError(f"base model: {place} holds no CLIP vocabulary: {error}") from error


def check_token_format(token: str) -> None:
    """Nothing for a well-formed placeholder token.

    Raises:
        InvalidTokenError: names what came and what is allowed.
    """
    if not TOKEN_PATTERN.fullmatch(token):
        raise InvalidTokenError(f"token: {token!r} came; {_TOKEN_RULE}", field="token")


def check_token(token: str, vocabulary: Vocabulary) -> None:
    """Nothing for a well-formed placeholder token that the base model does not know.

    Raises:
        InvalidTokenError: it is malformed, or a word already.
    """
    if vocabulary.is_word(token):
        raise InvalidTokenError(
            f"token: {token!r} is a word of the base model already; {_TOKEN_RULE}", field="token"
        )
    check_token_format(token)


def check_initializer(word: str, vocabulary: Vocabulary) -> int:
    """The id of the one token that the word is.

    Raises:
        InvalidInitializerError: the word is no single token; the message tells how it splits.
    """
    token_id = vocabulary.single_token_id(word)
    if token_id is None:
        parts = " + ".join(repr(part.removesuffix(_WORD_END)) for part in vocabulary.split(word))
        raise InvalidInitializerError(
            f"initializer: {word!r} splits into {parts or 'nothing'}; "
            "allowed: a word that is one token of the base model",
            field="initializer",
        )
    return token_id


def _from_whole(file: Path) -> tuple[dict[str, int], list[tuple[str, str]], set[str]]:
    stored = json.loads(file.read_text(encoding="utf-8"))
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in stored["model"]["merges"])
    added = {token["content"] for token in stored.get("added_tokens", [])}
    return stored["model"]["vocab"], [(left, right) for left, right in pairs], added


def _from_parts(place: Path) -> tuple[dict[str, int], list[tuple[str, str]], set[str]]:
    ids = json.loads((place / "vocab.json").read_text(encoding="utf-8"))
    lines = (place / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#version"))
    added: set[str] = set()
    for name in ("added_tokens.json", "special_tokens_map.json"):
        if (place / name).is_file():
            added |= _contents(json.loads((place / name).read_text(encoding="utf-8")), name)
    return ids, [(pair[0], pair[1]) for pair in pairs if len(pair) == 2], added


def _contents(stored: dict[str, Any], name: str) -> set[str]:
    """The tokens in added_tokens.json (token → id) or special_tokens_map.json (role → token)."""
    if name == "added_tokens.json":
        return set(stored)
    roles = [value for role in stored.values() for value in (role if isinstance(role, list) else [role])]
    return {value["content"] if isinstance(value, dict) else value for value in roles}


def _clip_tokenizer(ids: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's rules of splitting text, the same as transformers' CLIPTokenizer sets up."""
    unknown = "<|endoftext|>" if "<|endoftext|>" in ids else None
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, end_of_word_suffix=_WORD_END, unk_token=unknown)
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
