"""Preparation of a generation's prompts: tokens as their concepts spell them, and the window of the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoodip_core.base_models.text_window import TextWindow, check_vector_count, check_window
from zoodip_core.config import GenerationSettings
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_tokens import PromptReading, read_prompt, unused_concepts
from zoodip_core.prompt_weights import parse_prompt, text_of


@dataclass(frozen=True)
class PreparedGeneration:
    """A generation whose prompts are read.

    Attributes:
        settings: the settings, with both prompts as they are drawn.
        tokens: tokens that the prompts contain, each once.
        warnings: corrected spellings, dropped text and unused concepts.
    """

    settings: GenerationSettings
    tokens: tuple[str, ...]
    warnings: tuple[InputWarning, ...]


def prepare_prompts(
    settings: GenerationSettings,
    vectors: Mapping[str, int],
    windows: Sequence[TextWindow] | None,
    *,
    expected: str = "a token of the given concepts",
    field: str = "prompt",
) -> PreparedGeneration:
    """Read the prompts of a generation and validate that the base model reads every token in them.

    Args:
        settings: settings with the prompts as the user writes them.
        vectors: token → number of vectors, for each concept that the user has given or can mean.
        windows: windows of the base model's text encoders; None if its files are on another machine.
        expected: what a token in a prompt must be, for messages.
        field: name of the prompt's field, for messages.

    Raises:
        UnknownTokenError: a prompt contains something that looks like a token and is none.
        InvalidCaptionError: a learned token does not fit into the window, or not into any chunk.
        InvalidSettingsError: a prompt is too long once its tokens have their own spelling.
    """
    vocabulary = windows[0].vocabulary if windows else None
    labels = {"prompt": field, "negative_prompt": "negative_prompt"}
    readings = {
        name: read_prompt(
            getattr(settings, name), vectors, field=label, expected=expected, vocabulary=vocabulary
        )
        for name, label in labels.items()
    }
    texts = {name: reading.text for name, reading in readings.items()}
    warnings = [warning for reading in readings.values() for warning in reading.warnings]
    for name, reading in readings.items():
        warnings += _check_windows(settings, labels[name], reading, vectors, windows) if windows else []
    warnings += unused_concepts(vectors, readings.values())
    tokens = dict.fromkeys(token for reading in readings.values() for token in reading.tokens)
    return PreparedGeneration(
        GenerationSettings.parse(settings.model_dump() | texts), tuple(tokens), tuple(warnings)
    )


def _check_windows(
    settings: GenerationSettings,
    field: str,
    reading: PromptReading,
    vectors: Mapping[str, int],
    windows: Sequence[TextWindow],
) -> list[InputWarning]:
    """Validate that the base model reads every learned token; return a warning if it does not read all text."""
    if settings.long_prompts == "truncate":
        text = text_of(parse_prompt(reading.text, settings.prompt_syntax))
        return check_window(text, vectors, windows, field=field)
    room = min(window.room for window in windows)
    for token in reading.tokens:
        check_vector_count(token, vectors[token], room, field=field)
    return []
