"""A learned token enters the text encoder as an input embedding; the vocabulary stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import flatten, unflatten
from zoodip_core.errors import InvalidCaptionError, UnknownTokenError


def _word_vectors(bundle: Bundle, word: str) -> list[torch.Tensor]:
    ids = [e.tokenizer(word, add_special_tokens=False).input_ids for e in bundle.prompts.encoders]
    return [e.table[i].float() for e, i in zip(bundle.prompts.encoders, ids, strict=True)]


def test_token_with_a_words_vector_reads_like_the_word(family: str, bundles: dict[str, Bundle]) -> None:
    """A token whose vector is that of "dog" gives exactly the states of the prompt with "dog"."""
    bundle = bundles[family]
    encoder = bundle.prompts
    vectors = {"<x>": _word_vectors(bundle, "dog")}
    learned = encoder.tokenize("a photo of a <x> in the snow", {"<x>": 1})
    plain = encoder.tokenize("a photo of a dog in the snow", {})
    with torch.no_grad():
        a = encoder.encode([row[None] for row in encoder.embed(learned, vectors)], [learned])
        b = encoder.encode([row[None] for row in encoder.embed(plain, {})], [plain])
    assert torch.equal(a.states, b.states)
    if a.pooled is not None and b.pooled is not None:
        assert torch.equal(a.pooled, b.pooled)


def test_candidates_equal_one_by_one(family: str, bundles: dict[str, Bundle]) -> None:
    """Rows of candidates give the states that each candidate gives alone, the table untouched."""
    bundle = bundles[family]
    encoder = bundle.prompts
    before = [e.table.clone() for e in encoder.encoders]
    prompt = encoder.tokenize("a <x> on the grass", {"<x>": 2})
    candidates = torch.randn(3, 2 * sum(encoder.widths), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = encoder.encode(encoder.embed_candidates(prompt, "<x>", candidates, 2), [prompt] * 3)
        for k, candidate in enumerate(candidates):
            parts = [part[0] for part in unflatten(candidate[None], 2, encoder.widths)]
            alone = encoder.encode([r[None] for r in encoder.embed(prompt, {"<x>": parts})], [prompt])
            torch.testing.assert_close(together.states[k], alone.states[0])
    assert all(torch.equal(e.table, b) for e, b in zip(encoder.encoders, before, strict=True))


def test_flatten_is_undone_by_unflatten() -> None:
    """The point that a search moves holds all vectors of all encoders."""
    parts = [torch.randn(2, 3), torch.randn(2, 5)]
    back = unflatten(flatten(parts)[None], 2, (3, 5))
    assert all(torch.equal(a, b[0]) for a, b in zip(parts, back, strict=True))


def test_ids_equal_the_tokenizers_own(family_folder: dict[str, Path], bundles: dict[str, Bundle]) -> None:
    """A prompt without learned tokens has the ids of the tokenizer's own padding and truncation."""
    for text in ("", "a dog", "a photo of a dog " * 40):
        encoder = bundles["sd1"].prompts.encoders[0]
        own = encoder.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids[0]
        assert torch.equal(bundles["sd1"].prompts.tokenize(text, {}).ids[0], own)


def test_unknown_token(bundles: dict[str, Bundle]) -> None:
    """A `<name>` that was not given is named together with those that were."""
    with pytest.raises(UnknownTokenError, match=r"<y>.*given: <x>"):
        bundles["sd1"].prompts.tokenize("a <y>", {"<x>": 1})


def test_token_beyond_the_window(bundles: dict[str, Bundle]) -> None:
    """A learned token that truncation would cut away is an error."""
    with pytest.raises(InvalidCaptionError, match="that the model reads"):
        bundles["sd1"].prompts.tokenize("a dog " * 60 + "<x>", {"<x>": 1})
