"""Text conditioning of generations: weights of words, long prompts in chunks, and the negative prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, Prompt, PromptEncoder, PromptStates, spelled
from zoodip_core.diffusion.tokenization import first_window, read_units, split_windows
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.prompt_weights import parse_prompt, text_of


@torch.no_grad()
def conditioning(
    bundle: Bundle, requests: Sequence[GenerationSettings], concepts: ConceptVectors
) -> list[PromptStates]:
    """Return the conditioning, one row for each image: [negative, positive] with guidance, else [positive].

    Both have the same number of chunks. States of a prompt that was encoded before come from the cache of `bundle`.

    Args:
        bundle: the base model.
        requests: settings that differ only in prompt, number of images and seed.
        concepts: vectors of each learned token that the prompts can use.

    Raises:
        InvalidSettingsError: two prompts need different numbers of chunks.
        UnknownTokenError: a prompt contains a token that is not in `concepts`.
        InvalidCaptionError: a learned token does not fit into its window.
        OutOfMemoryError: the chunks of a prompt do not fit into memory.
    """
    first, vectors = requests[0], {token: len(parts[0]) for token, parts in concepts.items()}
    prompts = [tokenize_chunks(bundle.prompts, one.prompt, vectors, first) for one in requests]
    guided = first.guidance_scale > 1
    avoided = tokenize_chunks(bundle.prompts, first.negative_prompt, vectors, first) if guided else ()
    count = _shared_count(prompts, len(avoided))
    encoded = [
        _repeated(_encode(bundle, chunks, concepts, count), one.n)
        for chunks, one in zip(prompts, requests, strict=True)
    ]
    pooled = [states.pooled for states in encoded if states.pooled is not None]
    rows = PromptStates(
        torch.cat([states.states for states in encoded]), torch.cat(pooled) if pooled else None
    )
    if not guided:
        return [rows]
    negative = _encode(bundle, avoided, concepts, count)
    if bundle.zero_empty_prompt and not first.negative_prompt:
        pooled_zeros = None if negative.pooled is None else torch.zeros_like(negative.pooled)
        negative = PromptStates(torch.zeros_like(negative.states), pooled_zeros)
    return [_repeated(negative, len(rows.states)), rows]


def tokenize_chunks(
    encoder: PromptEncoder, prompt: str, vectors: Mapping[str, int], settings: GenerationSettings
) -> tuple[Prompt, ...]:
    """Return the chunks of a prompt, each with a window for every text encoder; a short prompt has one.

    Args:
        encoder: the text encoders.
        prompt: the prompt or the negative prompt of a generation.
        vectors: learned token → number of its vectors.
        settings: syntax of the prompt, and whether text beyond the first window is dropped.

    Raises:
        UnknownTokenError: a part of the prompt looks like a token and is not in `vectors`.
        InvalidCaptionError: a learned token does not fit into its window.
    """
    parts = parse_prompt(spelled(prompt, vectors, "prompt"), settings.prompt_syntax)
    rows = []
    for tokenizer in (one.tokenizer for one in encoder.encoders):
        units = [
            unit for part in parts for unit in read_units(tokenizer, part.text, vectors, weight=part.weight)
        ]
        if settings.long_prompts == "truncate":
            rows.append([first_window(tokenizer, units, prompt=text_of(parts), field="prompt")])
        else:
            rows.append(split_windows(tokenizer, units, field="prompt"))
    return tuple(Prompt(windows) for windows in zip(*rows, strict=True))


def _encode(bundle: Bundle, chunks: Sequence[Prompt], concepts: ConceptVectors, count: int) -> PromptStates:
    """Return one row: the states of `count` chunks, the last ones empty, and the pooled state of the first."""
    encoder = bundle.prompts
    padded = [*chunks, *[encoder.tokenize("", {})] * (count - len(chunks))]

    def encode() -> PromptStates:
        embedded = [encoder.embed(chunk, concepts) for chunk in padded]
        with bundle.denoiser.threads(len(padded) * bundle.cells):
            encoded = encoder.encode([torch.stack(parts) for parts in zip(*embedded, strict=True)], padded)
        pooled = None if encoded.pooled is None else encoded.pooled[:1]
        return PromptStates(encoded.states.flatten(0, 1)[None], pooled)

    return bundle.text_states.get(padded, concepts, encode)


def _shared_count(prompts: Sequence[Sequence[Prompt]], negative: int) -> int:
    """Return the number of chunks of every row. Padding one prompt for another would change its images.

    Raises:
        InvalidSettingsError: two prompts of a batch need different numbers.
    """
    counts = [max(len(chunks), negative) for chunks in prompts]
    for count in counts:
        if count != counts[0]:
            raise InvalidSettingsError.mismatch(
                "prompt", got=f"{count} chunks", expected=f"{counts[0]}, as in the first prompt of the batch"
            )
    return counts[0]


def _repeated(states: PromptStates, count: int) -> PromptStates:
    """Repeat one row `count` times, without a copy."""
    pooled = None if states.pooled is None else states.pooled.expand(count, -1)
    return PromptStates(states.states.expand(count, -1, -1), pooled)
