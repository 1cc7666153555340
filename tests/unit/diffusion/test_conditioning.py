"""Long and weighted prompts: windows of tokens, and the pictures that A1111's rule gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from tests.tooling import a1111
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.conditioning import conditioning, tokenize_chunks
from zoodip_core.diffusion.generation import generate, generate_together
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.tokenization import Unit, split_windows
from zoodip_core.errors import InvalidCaptionError, InvalidSettingsError
from zoodip_core.prompt_weights import parse_prompt

LONG = "a (photo:1.3) of a dog in the snow, " * 9 + "a [red house] " * 25


@pytest.fixture(scope="module")
def tokenizer(family_folder: dict[str, Path]) -> CLIPTokenizer:
    """Return the tokenizer of the tiny SD1."""
    return CLIPTokenizer.from_pretrained(family_folder["sd1"] / "tokenizer")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", ","]), max_size=260))
def test_chunks_are_those_of_a1111(tokenizer: CLIPTokenizer, words: list[str]) -> None:
    """Chunks have 75 tokens; text after a late comma moves to the next one."""
    ids = tokenizer(" ".join(words), add_special_tokens=False).input_ids if words else []
    comma = tokenizer(",", add_special_tokens=False).input_ids[0]
    windows = split_windows(tokenizer, [Unit((one,)) for one in ids], field="prompt")
    expected = [tokens for tokens, _ in a1111.chunks(ids, [1.0] * len(ids), comma)]
    found = [window.ids.tolist() for window in windows]
    assert [row[1 : row.index(tokenizer.eos_token_id)] for row in found] == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 16), max_size=30))
def test_vectors_of_a_token_stay_together(tokenizer: CLIPTokenizer, sizes: list[int]) -> None:
    """Each learned token has all its vectors, in order, in one window."""
    units = [Unit((0,) * size, f"<{index}>") for index, size in enumerate(sizes)]
    found = [
        [(slot.token, slot.vector) for slot in window.slots]
        for window in split_windows(tokenizer, units, field="prompt")
    ]
    for index, size in enumerate(sizes):
        whole = [(f"<{index}>", vector) for vector in range(size)]
        assert [[one for one in row if one[0] == f"<{index}>"] for row in found].count(whole) == 1
    assert sum(len(row) for row in found) == sum(sizes)


def test_weights_reach_learned_tokens(bundles: dict[str, Bundle]) -> None:
    """All vectors of a token in brackets have the weight; other positions have 1."""
    request = GenerationSettings(prompt="a dog and (<x>:1.5)", prompt_syntax="weighted")
    (chunk,) = tokenize_chunks(bundles["sd1"].prompts, request.prompt, {"<x>": 2}, request)
    (window,) = chunk.windows
    assert window.weights.tolist() == [1.0] * 4 + [1.5] * 2 + [1.0] * 71
    assert [slot.position for slot in window.slots] == [4, 5]


def test_a_token_needs_a_window_of_its_size(bundles: dict[str, Bundle]) -> None:
    """A token beyond the first window is drawn in chunks and refused in truncated prompts; 76 vectors never fit."""
    late = GenerationSettings(prompt="a photo " * 40 + "<x>")
    assert len(tokenize_chunks(bundles["sd1"].prompts, late.prompt, {"<x>": 1}, late)) == 2
    with pytest.raises(
        InvalidCaptionError, match="<x> with 76 vectors; expected learned tokens of at most 75"
    ):
        tokenize_chunks(bundles["sd1"].prompts, late.prompt, {"<x>": 76}, late)
    truncated = late.model_copy(update={"long_prompts": "truncate"})
    with pytest.raises(InvalidCaptionError, match="position 81"):
        tokenize_chunks(bundles["sd1"].prompts, late.prompt, {"<x>": 1}, truncated)


def test_truncated_text_changes_nothing(bundles: dict[str, Bundle]) -> None:
    """Text beyond the first window has no effect with `truncate`, and one with `chunks`."""
    start = "a photo of a dog " * 15  # 75 tokens
    states = {}
    for mode in ("truncate", "chunks"):
        for text in (start, start + "in the snow"):
            request = GenerationSettings(prompt=text, long_prompts=mode, guidance_scale=1)
            with torch.no_grad():
                (rows,) = conditioning(bundles["sd1"], [request], {})
            states[mode, text] = rows.states
    assert torch.equal(states["truncate", start], states["truncate", start + "in the snow"])
    assert torch.equal(states["chunks", start], states["truncate", start])
    assert states["chunks", start + "in the snow"].shape[1] == 2 * 77


def test_prompts_of_a_batch_have_one_length(bundles: dict[str, Bundle]) -> None:
    """Padding one prompt for another would change its images, so such a batch is refused."""
    requests = [GenerationSettings(prompt=text, steps=1) for text in ("a dog", "a photo " * 40)]
    with pytest.raises(
        InvalidSettingsError, match="prompt: got 2 chunks; expected 1, as in the first prompt"
    ):
        generate_together(bundles["sd1"], requests)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_pictures_follow_the_rule_of_a1111(
    family: str, family_folder: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    """A prompt of three chunks with weights draws the picture of diffusers with A1111's states."""
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(family_folder[family], torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    request = GenerationSettings(
        prompt=LONG,
        negative_prompt="(red:1.2) house",
        prompt_syntax="weighted",
        steps=2,
        guidance_scale=5,
        seed=4,
    )
    expected = _embeddings(pipeline, LONG, "") | _embeddings(pipeline, request.negative_prompt, "negative_")
    with torch.no_grad():
        negative, positive = conditioning(bundles[family], [request], {})
    assert torch.allclose(positive.states, expected["prompt_embeds"], atol=1e-4)
    assert torch.allclose(negative.states, expected["negative_prompt_embeds"], atol=1e-4)
    theirs = pipeline(
        **expected,
        num_inference_steps=2,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(4),
    ).images[0]
    ours = generate(bundles[family], request)[0].image
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def _embeddings(pipeline: Any, prompt: str, prefix: str) -> dict[str, torch.Tensor]:
    """Return the arguments of diffusers' pipeline with the states of a prompt by A1111's rule."""
    is_xl = hasattr(pipeline, "text_encoder_2")
    parts = [(part.text, part.weight) for part in parse_prompt(prompt, "weighted")]
    encoders = [(pipeline.tokenizer, pipeline.text_encoder)]
    encoders += [(pipeline.tokenizer_2, pipeline.text_encoder_2)] if is_xl else []
    encoded = [a1111.states(*both, parts, 3, penultimate=is_xl) for both in encoders]
    found = {f"{prefix}prompt_embeds": torch.cat([one for one, _ in encoded], dim=-1)}
    pooled = encoded[-1][1]
    return found if pooled is None else found | {f"{prefix}pooled_prompt_embeds": pooled}
