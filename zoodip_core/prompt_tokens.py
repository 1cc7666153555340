"""Reading of prompts: finds the tokens of concepts in a text, also in other spellings. No torch.

A prompt can spell `<my-dog>` as `<My-Dog>`, `< my-dog >`, `&lt;my-dog&gt;`, `%3Cmy-dog%3E`, `<my-dog` or `my-dog>`,
also with other dashes and invisible characters. Each is read as the token. Other text that looks like a token is an
error. A word without brackets is read as the token only if the base model has no such word.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from zoodip_core.base_models.vocabulary import TOKEN_PATTERN, Vocabulary
from zoodip_core.errors import UnknownTokenError
from zoodip_core.input_warnings import InputWarning, WarningCode

_OPEN = r"(?:\\?[<＜﹤‹〈⟨]|&(?:amp;)*(?:lt|\#0*60|\#x0*3c);?|%3c|\\(?:u00|x)3c)"
_CLOSE = r"(?:\\?[>＞﹥›〉⟩]|&(?:amp;)*(?:gt|\#0*62|\#x0*3e);?|%3e|\\(?:u00|x)3e)"
_NAME = r"[^\W_][\w-]*"
_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # word processors write these for a hyphen
_SPELLING = re.compile(
    rf"""
    {_OPEN}+ (?!\s*\d+[\s.,;!?]) (?P<inside>(?:(?!{_OPEN}|{_CLOSE}).){{1,100}}?) {_CLOSE}+  # < My Dog >
    | {_OPEN}+ (?P<unclosed>{_NAME})                                    # <my-dog
    | (?<![\w-]) (?P<unopened>{_NAME}) (?<![_-]) {_CLOSE}+              # my-dog>
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LIKE_A_NAME = re.compile(r"[^\W_]|\*|[^\x00-\x7f]")  # `<*>` is the placeholder of textual inversion
_WORD = re.compile(rf"(?<![\w<-]){_NAME}")
_MAX_SUGGESTIONS = 3


@dataclass(frozen=True)
class PromptReading:
    """A prompt as it is drawn.

    Attributes:
        text: the prompt; every token has the spelling of its concept.
        tokens: tokens in the text, in order, each once.
        words: known tokens whose name is in the text only as an ordinary word.
        warnings: one for each corrected spelling.
    """

    text: str
    tokens: tuple[str, ...]
    words: frozenset[str]
    warnings: tuple[InputWarning, ...]


@dataclass(frozen=True)
class _Spelling:
    """Text at [start, end) that looks like a token; `token` is the token that it can mean."""

    start: int
    end: int
    text: str
    token: str | None


def normalized_token(name: str) -> str | None:
    """Return the token that a name in another spelling means, or None: `Cat Toy` and `< Cat-Toy >` → `<cat-toy>`."""
    bare = re.sub(rf"^\s*{_OPEN}+|{_CLOSE}+\s*$", "", name, flags=re.IGNORECASE).strip()
    visible = "".join(character for character in bare if unicodedata.category(character) != "Cf").strip()
    lowered = unicodedata.normalize("NFKC", visible).lower()
    token = "<" + re.sub(rf"\s+|[{_DASHES}]", "-", lowered) + ">"
    return token if TOKEN_PATTERN.fullmatch(token) else None


def token_of_file_name(stem: str) -> str | None:
    """Return the token that the name of a file gives, or None: `Style_v1.2 (1)` → `<style_v1-2-1>`."""
    lowered = unicodedata.normalize("NFKC", stem).lower()
    return normalized_token(re.sub(r"[^a-z0-9_-]+", "-", lowered).strip("-_"))


def contains_token(text: str, token: str) -> bool:
    """Return whether a text contains the token, also in another spelling with brackets."""
    return any(spelling.token == token for spelling in _spellings(text))


def candidate_tokens(text: str) -> set[str]:
    """Return every token that a part of the text can mean. Most of them have no concept."""
    tokens = {spelling.token for spelling in _spellings(text)}
    tokens |= {normalized_token(word.group()) for word in _WORD.finditer(text)}
    return {token for token in tokens if token is not None}


def bracket_names(text: str, tokens: Collection[str]) -> str:
    """Return the text with brackets around the names of tokens, also of those that are ordinary words.

    Programs such as A1111 name an embedding by its bare name: `a my-dog` → `a <my-dog>`.
    """
    parts: list[str] = []
    cursor = 0
    for spelling in _spellings(text):
        parts += [_bracket_words(text[cursor : spelling.start], tokens), spelling.text]
        cursor = spelling.end
    return "".join([*parts, _bracket_words(text[cursor:], tokens)])


def read_prompt(
    text: str,
    known: Collection[str],
    *,
    field: str,
    expected: str = "a token of the given concepts",
    vocabulary: Vocabulary | None = None,
) -> PromptReading:
    """Find the tokens of a prompt and give each the spelling of its concept.

    Args:
        text: the prompt.
        known: tokens of the concepts that the prompt can use.
        field: name of the prompt's field, for messages.
        expected: what a token in the prompt must be, for messages.
        vocabulary: words of the base model; None reads every word without brackets as an ordinary word.

    Raises:
        UnknownTokenError: a part of the text looks like a token and is none; names similar tokens.
    """
    parts: list[str] = []
    corrected: dict[str, str] = {}  # spelling → token
    cursor = 0
    for spelling in _spellings(text):
        if spelling.token is None or spelling.token not in known:
            raise _unknown_token(spelling, known, field, expected)
        parts += [text[cursor : spelling.start], spelling.token]
        cursor = spelling.end
        if spelling.text != spelling.token:
            corrected[spelling.text] = spelling.token
    read, words = _read_words("".join([*parts, text[cursor:]]), known, vocabulary, corrected)
    warnings = tuple(_spelling_warning(field, text, token) for text, token in corrected.items())
    return PromptReading(read, tuple(dict.fromkeys(TOKEN_PATTERN.findall(read))), words, warnings)


def unused_concepts(tokens: Iterable[str], readings: Collection[PromptReading]) -> list[InputWarning]:
    """Return a warning for each token that no prompt of a request contains."""
    used = {token for reading in readings for token in reading.tokens}
    words = {token for reading in readings for token in reading.words}
    warnings = []
    for token in sorted(set(tokens) - used):
        name = token.strip("<>")
        hint = f" and reads {name!r} as an ordinary word; write {token} to draw the concept"
        message = f"the prompt does not contain {token}{hint if token in words else ''}"
        warnings.append(InputWarning(WarningCode.CONCEPT_UNUSED, "prompt", message))
    return warnings


def _spellings(text: str) -> Iterator[_Spelling]:
    """Yield the parts of the text that look like tokens. Lone brackets and emoticons such as `<3` do not."""
    for match in _SPELLING.finditer(text):
        name = next(group for group in match.groups() if group is not None)
        if _LIKE_A_NAME.search(name) and (match["inside"] or not name.isdigit()):
            yield _Spelling(match.start(), match.end(), match.group(), normalized_token(name))


def _read_words(
    text: str, known: Collection[str], vocabulary: Vocabulary | None, corrected: dict[str, str]
) -> tuple[str, frozenset[str]]:
    """Give names without brackets their tokens where the base model has no such word.

    Adds them to `corrected`; returns the text, and the tokens whose name stays an ordinary word.
    """
    words = set()
    for token in sorted(set(known) - set(TOKEN_PATTERN.findall(text))):
        bare = _bare(token)
        found = bare.search(text)
        if found is None:
            continue
        if vocabulary is None or vocabulary.word_ids(found.group()) is not None:
            words.add(token)
        else:
            text = bare.sub(token, text)
            corrected[found.group()] = token
    return text, frozenset(words)


def _bracket_words(text: str, tokens: Collection[str]) -> str:
    for token in tokens:
        text = _bare(token).sub(token, text)
    return text


def _bare(token: str) -> re.Pattern[str]:
    """Return the pattern of a token's name as a word without brackets."""
    return re.compile(rf"(?<![\w<-]){re.escape(token.strip('<>'))}(?![\w>-])", re.IGNORECASE)


def _unknown_token(
    spelling: _Spelling, known: Collection[str], field: str, expected: str
) -> UnknownTokenError:
    wanted = spelling.token or spelling.text.lower()
    similar = difflib.get_close_matches(wanted, sorted(known), n=_MAX_SUGGESTIONS, cutoff=0.6)
    hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
    return UnknownTokenError.mismatch(field, got=spelling.text, expected=f"{expected}{hint}")


def _spelling_warning(field: str, text: str, token: str) -> InputWarning:
    return InputWarning(WarningCode.SPELLING_CORRECTED, field, f"{text!r} is read as the token {token}")
