"""LRU cache of text-encoder states, so that a repeated prompt runs no text encoder."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zoodip_core.diffusion.prompts import ConceptVectors, Prompt, PromptStates

MAX_BYTES = 64_000_000
"""Size of a base model's cache: about 270 prompts of SD1.5, or 100 of SDXL."""


class StateCache:
    """States of the most recently used prompts, by their tokens, weights and concept vectors.

    Args:
        max_bytes: limit for all states; the last prompt is kept whatever its size.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: OrderedDict[bytes, PromptStates] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Memory of the states, in bytes."""
        return self._bytes

    def get(
        self, chunks: Sequence[Prompt], concepts: ConceptVectors, encode: Callable[[], PromptStates]
    ) -> PromptStates:
        """Return the states of a prompt, encoding it if they are not in the cache.

        Args:
            chunks: the prompt.
            concepts: vectors of the learned tokens. Only those that the prompt uses are a part of the key.
            encode: returns the states.
        """
        key = _key(chunks, concepts)
        if key not in self._states:
            self._add(key, encode())
        self._states.move_to_end(key)
        return self._states[key]

    def _add(self, key: bytes, states: PromptStates) -> None:
        """Add states, and drop those of the least recently used prompts."""
        self._states[key] = states
        self._bytes += _size(states)
        while self._bytes > self._max_bytes and len(self._states) > 1:
            _, dropped = self._states.popitem(last=False)
            self._bytes -= _size(dropped)


def _key(chunks: Sequence[Prompt], concepts: ConceptVectors) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        for index, window in enumerate(chunk.windows):
            digest.update(_content(window.ids))
            digest.update(_content(window.weights))
            for slot in window.slots:
                digest.update(f"{slot.position} ".encode())
                digest.update(_content(concepts[slot.token][index][slot.vector].float()))
    return digest.digest()


def _content(tensor: Tensor) -> bytes:
    content: bytes = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return content


def _size(states: PromptStates) -> int:
    tensors = [tensor for tensor in (states.states, states.pooled) if tensor is not None]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
