"""Tokens of a prompt in the windows of a text encoder: one window for captions, several for long prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.base_models.text_window import beyond_window, check_vector_count
from zoodip_core.base_models.vocabulary import TOKEN_PATTERN

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_COMMA = ",</w>"
_BACKTRACK = 20  # tokens after the last comma that move to the next window together, as in A1111


@dataclass(frozen=True)
class Slot:
    """Position of one vector of a learned token in a window."""

    position: int
    token: str
    vector: int


@dataclass(frozen=True)
class Unit:
    """Positions that stay together: one token of the vocabulary, or all vectors of a learned token.

    Attributes:
        ids: one id for each position; those of a learned token are start tokens, whose embeddings are replaced.
        token: the learned token, or None.
        weight: factor of the states at these positions.
    """

    ids: tuple[int, ...]
    token: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Window:
    """Ids of one window with start, end and padding; the slots of learned tokens; a weight for each position."""

    ids: Int[Tensor, " tokens"]
    slots: tuple[Slot, ...]
    weights: Float[Tensor, " tokens"]


def read_units(
    tokenizer: CLIPTokenizer, text: str, vectors: Mapping[str, int], *, weight: float = 1.0
) -> list[Unit]:
    """Return the units of a text, in which each learned token has the spelling of its concept."""
    units: list[Unit] = []
    cursor = 0
    for match in [*TOKEN_PATTERN.finditer(text), None]:
        plain = text[cursor : match.start() if match else len(text)]
        if plain.strip():
            # Not verbose: transformers would warn about text beyond the window.
            ids = tokenizer(plain, add_special_tokens=False, verbose=False).input_ids
            units += [Unit((one,), weight=weight) for one in ids]
        if match:
            ids = (tokenizer.bos_token_id,) * vectors[match.group()]
            units.append(Unit(ids, match.group(), weight))
            cursor = match.end()
    return units


def first_window(tokenizer: CLIPTokenizer, units: Sequence[Unit], *, prompt: str, field: str) -> Window:
    """Return the window with the start of the text; the rest is dropped.

    Args:
        tokenizer: gives the length of the window.
        units: units of the text.
        prompt: the text, for messages.
        field: name of the prompt's field, for messages.

    Raises:
        InvalidCaptionError: a learned token does not fit into the window.
    """
    room = _room(tokenizer)
    kept: list[Unit] = []
    end = last_end = 0
    for unit in units:
        end += len(unit.ids)
        last_end = end if unit.token else last_end
        if end <= room:
            kept.append(unit)
    if last_end > room:
        raise beyond_window(prompt, last_end, room, field=field)
    return _filled(tokenizer, kept)


def split_windows(tokenizer: CLIPTokenizer, units: Sequence[Unit], *, field: str) -> list[Window]:
    """Return as many windows as the text needs, at least one.

    Like A1111, text that follows a comma among the last 20 positions of a full window moves to the next one.

    Raises:
        InvalidCaptionError: a learned token has more vectors than a window has positions.
    """
    room, comma = _room(tokenizer), (tokenizer.convert_tokens_to_ids(_COMMA),)
    parts: list[list[Unit]] = [[]]
    after_comma = 0  # unit after the last comma in the last part; 0 for none
    for unit in units:
        if unit.token:
            check_vector_count(unit.token, len(unit.ids), room, field=field)
        part = parts[-1]
        if unit.ids == comma:
            after_comma = len(part) + 1
        elif _length(part) == room and after_comma and _length(part[after_comma - 1 :]) <= _BACKTRACK:
            parts.append(part[after_comma:])
            del part[after_comma:]
            after_comma = 0
        if _length(parts[-1]) + len(unit.ids) > room:
            parts.append([])
            after_comma = 0
        parts[-1].append(unit)
    return [_filled(tokenizer, part) for part in parts]


def _room(tokenizer: CLIPTokenizer) -> int:
    """Return the number of positions between start and end."""
    return int(tokenizer.model_max_length) - 2


def _length(units: Sequence[Unit]) -> int:
    return sum(len(unit.ids) for unit in units)


def _filled(tokenizer: CLIPTokenizer, units: Sequence[Unit]) -> Window:
    """Return the window of units that fit: start, units, end and padding."""
    length = int(tokenizer.model_max_length)
    ids: list[int] = [tokenizer.bos_token_id]
    slots: list[Slot] = []
    weights = [1.0]
    for unit in units:
        if unit.token:
            slots += [Slot(len(ids) + k, unit.token, k) for k in range(len(unit.ids))]
        ids += unit.ids
        weights += [unit.weight] * len(unit.ids)
    ids.append(tokenizer.eos_token_id)
    ids += [tokenizer.pad_token_id] * (length - len(ids))
    weights += [1.0] * (length - len(weights))
    return Window(torch.tensor(ids), tuple(slots), torch.tensor(weights))
