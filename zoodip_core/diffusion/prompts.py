"""Prompts and learned vectors → text-encoder states; the shared vocabulary table is read, never written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.base_models.vocabulary import TOKEN_PATTERN
from zoodip_core.errors import InvalidCaptionError, UnknownTokenError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@dataclass(frozen=True)
class TextEncoder:
    """One CLIP text encoder with its tokenizer.

    SD1 and SD2 condition on the last layer; SDXL on the last but one of two encoders, and on the second's
    projected end-of-text state.
    """

    tokenizer: CLIPTokenizer
    model: Any
    penultimate: bool
    projected: bool

    @property
    def body(self) -> Any:
        """The transformer itself: embeddings, layers, final norm."""
        return self.model.text_model if self.projected else self.model

    @property
    def table(self) -> Float[Tensor, "words d"]:
        """The vocabulary's embeddings."""
        weight: Tensor = self.body.embeddings.token_embedding.weight
        return weight

    @property
    def width(self) -> int:
        """Size of one embedding."""
        return int(self.table.shape[1])


@dataclass(frozen=True)
class Slot:
    """Where one vector of a learned token stands in a prompt."""

    position: int
    token: str
    vector: int


@dataclass(frozen=True)
class Prompt:
    """A tokenized prompt: one row of ids an encoder, and the places that learned vectors fill."""

    ids: tuple[Int[Tensor, " tokens"], ...]
    slots: tuple[tuple[Slot, ...], ...]


@dataclass(frozen=True)
class PromptStates:
    """What the U-Net attends to: a state per token, and SDXL's pooled state."""

    states: Float[Tensor, "rows tokens d"]
    pooled: Float[Tensor, "rows p"] | None


ConceptVectors = Mapping[str, Sequence[Float[Tensor, "vectors _"]]]
"""Token → its vectors, one tensor for each text encoder."""


class PromptEncoder:
    """Turns prompts with learned tokens into text-encoder states, for one or two encoders."""

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        self.encoders = tuple(encoders)

    @property
    def widths(self) -> tuple[int, ...]:
        """Embedding width of each encoder."""
        return tuple(encoder.width for encoder in self.encoders)

    def tokenize(self, prompt: str, vectors: Mapping[str, int]) -> Prompt:
        """Ids and slots of a prompt; a learned token takes as many places as it has vectors.

        Args:
            prompt: free text; `<name>` stands for a learned token.
            vectors: learned token → number of its vectors.

        Raises:
            UnknownTokenError: the prompt holds a `<name>` that is not in `vectors`.
            InvalidCaptionError: the learned token does not fit into the model's window.
        """
        for token in TOKEN_PATTERN.findall(prompt):
            if token not in vectors:
                known = ", ".join(sorted(vectors)) or "none"
                raise UnknownTokenError(
                    f"prompt: {token} is no concept that was given; given: {known}", field="prompt"
                )
        rows = [_tokenize(encoder.tokenizer, prompt, vectors) for encoder in self.encoders]
        return Prompt(tuple(ids for ids, _ in rows), tuple(slots for _, slots in rows))

    def embed(self, prompt: Prompt, concepts: ConceptVectors) -> tuple[Float[Tensor, "tokens _"], ...]:
        """Input embeddings of a prompt in fp32, one tensor an encoder."""
        rows = []
        for index, encoder in enumerate(self.encoders):
            row = encoder.table[prompt.ids[index].to(encoder.table.device)].float()
            for slot in prompt.slots[index]:
                row[slot.position] = concepts[slot.token][index][slot.vector].to(row)
            rows.append(row)
        return tuple(rows)

    def embed_candidates(
        self, prompt: Prompt, token: str, candidates: Float[Tensor, "rows flat"], vectors: int
    ) -> tuple[Float[Tensor, "rows tokens _"], ...]:
        """Input embeddings of one prompt for many values of a token; a candidate is laid out as by `flatten`."""
        embedded = []
        for index, part in enumerate(unflatten(candidates, vectors, self.widths)):
            encoder = self.encoders[index]
            row = encoder.table[prompt.ids[index].to(encoder.table.device)].float()
            rows = row.repeat(len(candidates), 1, 1)
            for slot in prompt.slots[index]:
                if slot.token == token:
                    rows[:, slot.position] = part[:, slot.vector].to(rows)
            embedded.append(rows)
        return tuple(embedded)

    def encode(
        self, embedded: Sequence[Float[Tensor, "rows tokens _"]], prompts: Sequence[Prompt]
    ) -> PromptStates:
        """Text-encoder states of rows of input embeddings; `prompts` (one a row) tell where each text ends."""
        states: list[Tensor] = []
        pooled = None
        for index, encoder in enumerate(self.encoders):
            ids = torch.stack([prompt.ids[index] for prompt in prompts])
            ends = _end_positions(encoder.tokenizer, ids)
            state, projected = _run(encoder, embedded[index], ends)
            states.append(state)
            pooled = projected if projected is not None else pooled
        return PromptStates(torch.cat(states, dim=-1), pooled)


def flatten(parts: Sequence[Float[Tensor, "vectors _"]]) -> Float[Tensor, " flat"]:
    """The vectors of a token, all encoders' behind one another, as the one point that a search moves."""
    return torch.cat([part.reshape(-1) for part in parts])


def unflatten(
    flat: Float[Tensor, "rows flat"], vectors: int, widths: Sequence[int]
) -> tuple[Float[Tensor, "rows vectors _"], ...]:
    """The inverse of `flatten`, for rows of points."""
    parts = torch.split(flat, [vectors * width for width in widths], dim=1)
    return tuple(part.reshape(len(flat), vectors, -1) for part in parts)


def _tokenize(
    tokenizer: CLIPTokenizer, prompt: str, vectors: Mapping[str, int]
) -> tuple[Int[Tensor, " tokens"], tuple[Slot, ...]]:
    """Ids padded to the model's window; learned tokens hold the end token's id, their slots tell the place."""
    window = int(tokenizer.model_max_length)
    ids: list[int] = [tokenizer.bos_token_id]
    slots: list[Slot] = []
    cursor = 0
    for match in [*TOKEN_PATTERN.finditer(prompt), None]:
        text = prompt[cursor : match.start() if match else len(prompt)]
        ids += tokenizer(text, add_special_tokens=False).input_ids if text.strip() else []
        if match:
            token = match.group()
            slots += [Slot(len(ids) + k, token, k) for k in range(vectors[token])]
            ids += [tokenizer.bos_token_id] * vectors[token]
            cursor = match.end()
    if any(slot.position >= window - 1 for slot in slots):
        raise InvalidCaptionError(
            f"prompt: {prompt!r} takes {len(ids) + 1} tokens and a learned token stands beyond "
            f"the {window} that the model reads",
            field="prompt",
        )
    ids = [*ids[: window - 1], tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (window - len(ids))
    return torch.tensor(ids), tuple(slots)


def _end_positions(tokenizer: CLIPTokenizer, ids: Int[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    """Place of the first end-of-text token in each row."""
    ends: Tensor = ids.eq(tokenizer.eos_token_id).int().argmax(dim=-1)
    return ends


def _run(
    encoder: TextEncoder, embedded: Float[Tensor, "rows tokens d"], ends: Int[Tensor, " rows"]
) -> tuple[Float[Tensor, "rows tokens d"], Float[Tensor, "rows p"] | None]:
    """The encoder's states from input embeddings: transformers' own forward takes ids alone."""
    body = encoder.body
    hidden = body.embeddings(inputs_embeds=embedded.to(encoder.table.dtype))
    before_last = hidden
    for layer in body.encoder.layers:
        before_last = hidden
        hidden = layer(hidden, None, is_causal=True)
    last = body.final_layer_norm(hidden)
    pooled = None
    if encoder.projected:
        rows = torch.arange(len(last), device=last.device)
        pooled = encoder.model.text_projection(last[rows, ends.to(last.device)])
    return (before_last if encoder.penultimate else last), pooled
