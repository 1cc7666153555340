"""Text windows: which learned tokens fit, and which text the base model does not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tooling.models import WORDS
from tests.tooling.tokenizers import write_tokenizer
from zoodip_core.base_models.text_window import TextWindow, check_window, text_windows, token_excess
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidCaptionError, InvalidModelError


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> TextWindow:
    """Return the window of an encoder that reads 6 tokens of a prompt."""
    folder = tmp_path_factory.mktemp("window")
    write_tokenizer(folder / "tokenizer", WORDS, length=8)
    (found,) = text_windows(folder)
    return found


def test_text_beyond_the_window_is_named(window: TextWindow) -> None:
    """The warning has the dropped text as the user wrote it; text that fits gives none."""
    assert check_window("a dog in  the snow.", {}, [window], field="prompt") == []
    (warning,) = check_window("A dog in  the snow at  the Beach", {}, [window], field="prompt")
    assert (warning.code, warning.field) == ("prompt_truncated", "prompt")
    assert warning.message == "the base model reads the first 6 tokens; it does not read 'at  the Beach'"


def test_each_vector_of_a_token_takes_a_position(window: TextWindow) -> None:
    """Three words and three vectors fill the window; four vectors do not fit."""
    assert check_window("a dog and <x>", {"<x>": 3}, [window], field="prompt") == []
    assert token_excess("a dog and <x>", {"<x>": 5}, [window]) == 2
    with pytest.raises(InvalidCaptionError) as error:
        check_window("a dog and <x>", {"<x>": 4}, [window], field="captions[1]")
    assert error.value.message == (
        "captions[1]: got a learned token that ends at position 7 of 'a dog and <x>'; "
        "expected each learned token within the first 6 positions, which the base model reads"
    )
    assert error.value.field == "captions"


def test_the_shortest_window_counts(window: TextWindow) -> None:
    """A prompt must fit into the windows of both text encoders of SDXL."""
    longer = TextWindow(window.vocabulary, 20)
    (warning,) = check_window("a dog and a cat in the snow", {}, [longer, window], field="prompt")
    assert "'the snow'" in warning.message
    with pytest.raises(InvalidCaptionError):
        check_window("a dog and a cat in <x>", {"<x>": 1}, [longer, window], field="prompt")


def test_sdxl_has_two_windows(family_folder: dict[str, Path]) -> None:
    """Each tokenizer of the pipeline folder is read."""
    assert [window.length for window in text_windows(family_folder["sdxl"])] == [77, 77]
    assert len(text_windows(family_folder["sd1"])) == 1


pieces = st.one_of(
    st.sampled_from([*WORDS, "<x>", "<y>", "dogs", "3", "!?"]),
    st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=4),
)


@settings(max_examples=60, deadline=None)
@given(text=st.lists(pieces, max_size=90).map(" ".join), vectors=st.integers(1, 30))
def test_agrees_with_the_tokenizer_of_transformers(
    text: str, vectors: int, family_folder: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    """The engine refuses the same prompts. More text changes nothing for it if and only if text is dropped."""
    counts = {"<x>": vectors, "<y>": 1}
    windows = text_windows(family_folder["sd1"])
    encode = bundles["sd1"].prompts.tokenize
    try:
        dropped = check_window(f"{text} dog", counts, windows, field="prompt")
    except InvalidCaptionError:
        with pytest.raises(InvalidCaptionError):
            encode(text, counts)
    else:
        dog, cat = (encode(f"{text} {word}", counts).windows[0].ids for word in ("dog", "cat"))
        assert dog.equal(cat) == bool(dropped)


@pytest.mark.parametrize("content", ["[", "[]", '{"model_max_length": "long"}'])
def test_a_damaged_configuration_is_an_invalid_model(tmp_path: Path, content: str) -> None:
    """The message names the folder of the tokenizer."""
    write_tokenizer(tmp_path / "tokenizer", WORDS)
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(content)
    with pytest.raises(InvalidModelError, match="tokenizer contains no tokenizer configuration"):
        text_windows(tmp_path)
