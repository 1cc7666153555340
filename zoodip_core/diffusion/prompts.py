"""Prompt encoding with learned tokens. The shared embedding table is read, never written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.diffusion.device import to_device
from zoodip_core.diffusion.memory import typed_out_of_memory
from zoodip_core.diffusion.text_encoder import TextEncoder
from zoodip_core.diffusion.tokenization import Window, first_window, read_units
from zoodip_core.prompt_tokens import read_prompt

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@dataclass(frozen=True)
class Prompt:
    """A tokenized prompt, or one chunk of it: a window for each text encoder."""

    windows: tuple[Window, ...]


@dataclass(frozen=True)
class PromptStates:
    """Text conditioning of the U-Net: one state for each token, and SDXL's pooled state."""

    states: Float[Tensor, "rows tokens d"]
    pooled: Float[Tensor, "rows p"] | None


ConceptVectors = Mapping[str, Sequence[Float[Tensor, "vectors _"]]]
"""Learned token → its vectors, one tensor for each text encoder."""


class PromptEncoder:
    """Encodes prompts with learned tokens, using one or two text encoders."""

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        self.encoders = tuple(encoders)

    @property
    def widths(self) -> tuple[int, ...]:
        """Embedding width of each encoder."""
        return tuple(encoder.width for encoder in self.encoders)

    def tokenize(self, prompt: str, vectors: Mapping[str, int], *, field: str = "prompt") -> Prompt:
        """Return the ids and slots of a prompt. A learned token takes one position for each of its vectors.

        Args:
            prompt: free text; `<name>` refers to a learned token, also in another spelling (see `read_prompt`).
            vectors: learned token → number of its vectors.
            field: name of the prompt's field, for messages.

        Raises:
            UnknownTokenError: a part of the prompt looks like a token and is not in `vectors`.
            InvalidCaptionError: the learned token does not fit into the context length of the encoder.
        """
        text = spelled(prompt, vectors, field)
        return Prompt(
            tuple(
                first_window(
                    one.tokenizer, read_units(one.tokenizer, text, vectors), prompt=text, field=field
                )
                for one in self.encoders
            )
        )

    def embed(self, prompt: Prompt, concepts: ConceptVectors) -> tuple[Float[Tensor, "tokens _"], ...]:
        """Return the input embeddings of a prompt in fp32, one tensor for each encoder."""
        rows = []
        for index, encoder in enumerate(self.encoders):
            window = prompt.windows[index]
            row = encoder.table[to_device(window.ids, encoder.table.device)].float()
            for slot in window.slots:
                row[slot.position] = to_device(concepts[slot.token][index][slot.vector], row.device)
            rows.append(row)
        return tuple(rows)

    def embed_candidates(
        self, prompt: Prompt, token: str, candidates: Float[Tensor, "rows flat"], vectors: int
    ) -> tuple[Float[Tensor, "rows tokens _"], ...]:
        """Return the input embeddings of one prompt under many candidate embeddings of a token.

        Args:
            prompt: the tokenized prompt.
            token: the learned token that the candidates replace.
            candidates: one row for each candidate, in the layout of `flatten`.
            vectors: number of vectors of the token.
        """
        embedded = []
        for index, part in enumerate(unflatten(candidates, vectors, self.widths)):
            encoder = self.encoders[index]
            window = prompt.windows[index]
            row = encoder.table[to_device(window.ids, encoder.table.device)].float()
            rows = row.repeat(len(candidates), 1, 1)
            on_device = to_device(part, rows.device)
            for slot in window.slots:
                if slot.token == token:
                    rows[:, slot.position] = on_device[:, slot.vector].to(rows.dtype)
            embedded.append(rows)
        return tuple(embedded)

    @typed_out_of_memory("Encoding the prompts")
    def encode(
        self, embedded: Sequence[Float[Tensor, "rows tokens _"]], prompts: Sequence[Prompt]
    ) -> PromptStates:
        """Return the text-encoder states of rows of input embeddings.

        Args:
            embedded: input embeddings, one tensor for each encoder.
            prompts: one for each row; they give the end of each text.

        Raises:
            OutOfMemoryError: the rows do not fit.
        """
        states: list[Tensor] = []
        pooled = None
        for index, encoder in enumerate(self.encoders):
            windows = [prompt.windows[index] for prompt in prompts]
            ends = _end_positions(encoder.tokenizer, torch.stack([window.ids for window in windows]))
            state, projected = encoder.run(embedded[index], ends)
            states.append(_weighted(state, torch.stack([window.weights for window in windows])))
            pooled = projected if projected is not None else pooled
        return PromptStates(torch.cat(states, dim=-1), pooled)


def spelled(prompt: str, vectors: Mapping[str, int], field: str) -> str:
    """Return the prompt with each learned token in the spelling of its concept.

    Raises:
        UnknownTokenError: a part of the prompt looks like a token and is not in `vectors`.
    """
    known = ", ".join(sorted(vectors)) or "none is given"
    expected = f"a token of the given concepts ({known})"
    return read_prompt(prompt, vectors, field=field, expected=expected).text


def flatten(parts: Sequence[Float[Tensor, "vectors _"]]) -> Float[Tensor, " flat"]:
    """Concatenate the vectors of a token over all encoders: the parameter θ of a search."""
    return torch.cat([part.reshape(-1) for part in parts])


def unflatten(
    flat: Float[Tensor, "rows flat"], vectors: int, widths: Sequence[int]
) -> tuple[Float[Tensor, "rows vectors _"], ...]:
    """Split each row into the vectors of each encoder. The inverse of `flatten`."""
    parts = torch.split(flat, [vectors * width for width in widths], dim=1)
    return tuple(part.reshape(len(flat), vectors, -1) for part in parts)


def _weighted(
    states: Float[Tensor, "rows tokens d"], weights: Float[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens d"]:
    """Multiply states by the weights of their tokens, and restore the mean of each row, as A1111 does."""
    if bool((weights == 1).all()):
        return states
    scaled = states * weights[..., None].to(states)
    return scaled * (states.mean((1, 2), keepdim=True) / scaled.mean((1, 2), keepdim=True))


def _end_positions(tokenizer: CLIPTokenizer, ids: Int[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    """Return the position of the first end-of-text token in each row."""
    ends: Tensor = ids.eq(tokenizer.eos_token_id).int().argmax(dim=-1)
    return ends
