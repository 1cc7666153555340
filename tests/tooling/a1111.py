"""A1111's rule for long and weighted prompts, on transformers' text encoders; no learned tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

ROOM = 75
BACKTRACK = 20  # A1111's default of "comma padding backtrack"


def chunks(ids: Sequence[int], weights: Sequence[float], comma: int) -> list[tuple[list[int], list[float]]]:
    """Split tokens into chunks of 75; a chunk that is full ends after its last comma if at most 20 tokens follow."""
    done: list[tuple[list[int], list[float]]] = []
    start = 0
    while len(ids) - start > ROOM:
        end = start + ROOM
        if ids[end] != comma:
            commas = [place for place in range(end - BACKTRACK, end) if ids[place] == comma]
            end = commas[-1] + 1 if commas else end
        done.append((list(ids[start:end]), list(weights[start:end])))
        start = end
    return [*done, (list(ids[start:]), list(weights[start:]))]


def states(
    tokenizer: Any, encoder: Any, parts: Sequence[tuple[str, float]], count: int, *, penultimate: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the states of a prompt, `count` chunks long, and the pooled state of the first chunk."""
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in parts:
        tokens = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        ids, weights = ids + tokens, weights + [weight] * len(tokens)
    comma = tokenizer(",", add_special_tokens=False).input_ids[0]
    found = chunks(ids, weights, comma)
    encoded = [
        _encoded(tokenizer, encoder, *chunk, penultimate=penultimate)
        for chunk in [*found, *[([], [])] * (count - len(found))]
    ]
    return torch.cat([one for one, _ in encoded], dim=1), encoded[0][1]


def _encoded(
    tokenizer: Any, encoder: Any, ids: list[int], weights: list[float], *, penultimate: bool
) -> tuple[Tensor, Tensor | None]:
    padding = [tokenizer.pad_token_id] * (ROOM - len(ids))
    row = torch.tensor([[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]])
    factors = torch.tensor([1.0, *weights, *[1.0] * (ROOM + 1 - len(ids))])
    with torch.no_grad():
        output = encoder(row, output_hidden_states=True)
    z = output.hidden_states[-2] if penultimate else output.last_hidden_state
    scaled = z * factors[None, :, None]
    return scaled * (z.mean() / scaled.mean()), output.get("text_embeds")
