"""A learned token enters the text encoder as an input embedding; the embedding table is unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import flatten, unflatten
from zoodip_core.errors import InvalidCaptionError, UnknownTokenError


def _word_vectors(bundle: Bundle, word: str) -> list[torch.Tensor]:
    ids = [e.tokenizer(word, add_special_tokens=False).input_ids for e in bundle.prompts.encoders]
    return [e.table[i].float() for e, i in zip(bundle.prompts.encoders, ids, strict=True)]


def test_token_with_the_vector_of_a_word_acts_as_that_word(family: str, bundles: dict[str, Bundle]) -> None:
    """A token with the vector of "dog" gives exactly the states of the prompt with "dog"."""
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


def test_batched_candidates_equal_single_ones(family: str, bundles: dict[str, Bundle]) -> None:
    """A batch of candidates gives the states that each candidate gives alone. The table is unchanged."""
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


def test_unflatten_inverts_flatten() -> None:
    """θ contains all vectors of all encoders."""
    parts = [torch.randn(2, 3), torch.randn(2, 5)]
    back = unflatten(flatten(parts)[None], 2, (3, 5))
    assert all(torch.equal(a, b[0]) for a, b in zip(parts, back, strict=True))


def test_ids_equal_those_of_the_tokenizer(family_folder: dict[str, Path], bundles: dict[str, Bundle]) -> None:
    """A prompt without learned tokens has the ids that the tokenizer pads and truncates itself."""
    for text in ("", "a dog", "a photo of a dog " * 40):
        encoder = bundles["sd1"].prompts.encoders[0]
        expected = encoder.tokenizer(
            text, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids[0]
        assert torch.equal(bundles["sd1"].prompts.tokenize(text, {}).windows[0].ids, expected)


def test_unknown_token(bundles: dict[str, Bundle]) -> None:
    """The error names the unknown token and the tokens of the given concepts."""
    with pytest.raises(
        UnknownTokenError, match=r"prompt: got <Y>; expected a token of the given concepts \(<x>\)"
    ):
        bundles["sd1"].prompts.tokenize("a <Y>", {"<x>": 1})


def test_token_in_another_spelling(bundles: dict[str, Bundle]) -> None:
    """The engine reads spellings as the API and the command do."""
    encode = bundles["sd1"].prompts.tokenize
    read, exact = (encode(text, {"<x>": 1}) for text in ("a &lt;X&gt; at night", "a <x> at night"))
    assert read.windows[0].slots == exact.windows[0].slots
    assert torch.equal(read.windows[0].ids, exact.windows[0].ids)


def test_token_beyond_the_context_length(bundles: dict[str, Bundle]) -> None:
    """A learned token that truncation would remove is an error."""
    with pytest.raises(
        InvalidCaptionError, match=r"negative_prompt: got .* position 121 of .* first 75 positions"
    ):
        bundles["sd1"].prompts.tokenize("a dog " * 60 + "<x>", {"<x>": 1}, field="negative_prompt")


def test_long_prompts_cause_no_warning_of_transformers(
    bundles: dict[str, Bundle], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text beyond the window is cut off here, so transformers' warning about indexing errors would be false."""
    monkeypatch.setattr(transformers.logging.get_logger("transformers"), "propagate", True)
    bundles["sdxl"].prompts.tokenize("a dog " * 60, {})
    assert caplog.text == ""
