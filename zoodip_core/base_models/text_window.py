"""The window of a text encoder: the first tokens of a prompt that a base model reads. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoodip_core.base_models.vocabulary import TOKEN_PATTERN, Vocabulary, vocabulary
from zoodip_core.errors import InvalidCaptionError, InvalidModelError
from zoodip_core.input_warnings import InputWarning, WarningCode

_DEFAULT_LENGTH = 77  # CLIP's
_MAX_SHOWN = 200  # characters of dropped text in a warning


@dataclass(frozen=True)
class TextWindow:
    """Window of one text encoder.

    Attributes:
        vocabulary: its vocabulary.
        length: number of tokens that it reads, with the start and the end of the text.
    """

    vocabulary: Vocabulary
    length: int

    @property
    def room(self) -> int:
        """Number of tokens of a prompt that it reads."""
        return self.length - 2

    def overflow(self, prompt: str, vectors: Mapping[str, int]) -> _Overflow:
        """Return the part of a prompt that lies beyond the window.

        Args:
            prompt: the prompt, in which each token has the spelling of its concept.
            vectors: token → number of its vectors; each takes one position.
        """
        used = cursor = excess = 0
        start = None
        for match in [*TOKEN_PATTERN.finditer(prompt), None]:
            end = match.start() if match else len(prompt)
            places = self.vocabulary.character_positions(prompt[cursor:end])
            if start is None and (beyond := places[max(self.room - used, 0) :]):
                start = _word_start(prompt, cursor + beyond[0])
            used += len(places)
            if match:
                used += vectors[match.group()]
                excess = max(excess, used - self.room)
                cursor = match.end()
        return _Overflow(excess, "" if start is None else prompt[start:].strip())


@dataclass(frozen=True)
class _Overflow:
    """Excess over the window: positions of the last learned token that do not fit, and the dropped text."""

    positions: int
    text: str


def text_windows(folder: Path) -> tuple[TextWindow, ...]:
    """Read the window of each text encoder of a pipeline folder; SDXL has two.

    Raises:
        InvalidModelError: a file is missing or damaged.
    """
    parts = [part for part in ("tokenizer", "tokenizer_2") if part == "tokenizer" or (folder / part).is_dir()]
    return tuple(TextWindow(vocabulary(folder, part), _length(folder / part)) for part in parts)


def token_excess(prompt: str, vectors: Mapping[str, int], windows: Sequence[TextWindow]) -> int:
    """Return how many positions the last learned token of a prompt lies beyond the window; 0 if it fits."""
    return max(window.overflow(prompt, vectors).positions for window in windows)


def check_window(
    prompt: str, vectors: Mapping[str, int], windows: Sequence[TextWindow], *, field: str
) -> list[InputWarning]:
    """Validate that a base model reads every learned token of a prompt.

    Args:
        prompt: the prompt, in which each token has the spelling of its concept.
        vectors: token → number of its vectors.
        windows: windows of the base model's text encoders.
        field: name of the prompt's field, for messages.

    Returns:
        A warning with the text that the base model does not read, if there is any.

    Raises:
        InvalidCaptionError: a learned token lies beyond the window.
    """
    room = min(window.room for window in windows)
    found = [window.overflow(prompt, vectors) for window in windows]
    excess = max(overflow.positions for overflow in found)
    if excess > 0:
        raise beyond_window(prompt, room + excess, room, field=field)
    dropped = max((overflow.text for overflow in found), key=len)
    if not dropped:
        return []
    shown = dropped if len(dropped) <= _MAX_SHOWN else f"{dropped[:_MAX_SHOWN]}…"
    message = f"the base model reads the first {room} tokens; it does not read {shown!r}"
    return [InputWarning(WarningCode.PROMPT_TRUNCATED, field, message)]


def check_vector_count(token: str, vectors: int, room: int, *, field: str) -> None:
    """Validate that all vectors of a learned token fit into one window.

    Raises:
        InvalidCaptionError: they do not.
    """
    if vectors > room:
        raise InvalidCaptionError.mismatch(
            field,
            got=f"{token} with {vectors} vectors",
            expected=f"learned tokens of at most {room} vectors, which the base model reads together",
        )


def beyond_window(prompt: str, position: int, room: int, *, field: str) -> InvalidCaptionError:
    """Return the error for a learned token that ends at `position`, beyond the first `room` tokens."""
    return InvalidCaptionError.mismatch(
        field,
        got=f"a learned token that ends at position {position} of {prompt!r}",
        expected=f"each learned token within the first {room} positions, which the base model reads",
    )


def _word_start(prompt: str, at: int) -> int:
    """Return where the word at a position starts: a word of several tokens can lie partly inside the window."""
    while at and prompt[at - 1].isalnum() and prompt[at : at + 1].isalnum():
        at -= 1
    return at


def _length(folder: Path) -> int:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return int(config.get("model_max_length", _DEFAULT_LENGTH))
    except FileNotFoundError:
        return _DEFAULT_LENGTH
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidModelError(
            f"base_model: {folder} contains no tokenizer configuration: {error}"
        ) from error
