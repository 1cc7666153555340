"""Weights of words in prompts, in A1111's syntax: `(x)`, `[x]`, `(x:1.2)` and backslash escapes. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoodip_core.config import PromptSyntax

_STEP = 1.1  # of one pair of brackets
_PIECE = re.compile(r"\\[()\[\]\\]|\\|[(\[\])]|:(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\)|[^\\()\[\]:]+|:")


@dataclass(frozen=True)
class WeightedText:
    """A part of a prompt and the weight of its tokens."""

    text: str
    weight: float


def parse_prompt(prompt: str, syntax: PromptSyntax) -> tuple[WeightedText, ...]:
    """Split a prompt into parts of one weight each; brackets may be nested, and their weights multiply.

    `(x)` has the weight 1.1, `[x]` 1/1.1 and `(x:1.2)` 1.2. A bracket that is never closed extends to the end of the
    prompt. A closing bracket without an opening one is text. A backslash makes the character after it text.

    Args:
        prompt: the prompt.
        syntax: "plain" gives the whole prompt the weight 1.

    Returns:
        Parts in order; neighbors differ in weight. An empty prompt has one empty part.
    """
    if syntax == "plain":
        return (WeightedText(prompt, 1.0),)
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # bracket → first text inside of each that is open

    def close(bracket: str, weight: float) -> None:
        for index in range(opened[bracket].pop(), len(texts)):
            weights[index] *= weight

    for match in _PIECE.finditer(prompt):
        piece, weight = match.group(), match["weight"]
        if piece in opened:
            opened[piece].append(len(texts))
        elif weight is not None and opened["("]:
            close("(", float(weight))
        elif piece == ")" and opened["("]:
            close("(", _STEP)
        elif piece == "]" and opened["["]:
            close("[", 1 / _STEP)
        else:
            texts.append(piece.removeprefix("\\"))
            weights.append(1.0)
    for bracket, step in (("(", _STEP), ("[", 1 / _STEP)):
        while opened[bracket]:
            close(bracket, step)
    return _joined(texts, weights)


def text_of(parts: tuple[WeightedText, ...]) -> str:
    """Return the text that the text encoder reads. The space between two parts changes no token."""
    return " ".join(part.text for part in parts)


def _joined(texts: list[str], weights: list[float]) -> tuple[WeightedText, ...]:
    """Join neighbors of the same weight."""
    parts: list[WeightedText] = []
    for text, weight in zip(texts, weights, strict=True):
        if parts and parts[-1].weight == weight:
            parts[-1] = WeightedText(parts[-1].text + text, weight)
        else:
            parts.append(WeightedText(text, weight))
    return tuple(parts) or (WeightedText("", 1.0),)
