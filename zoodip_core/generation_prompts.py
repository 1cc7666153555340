"""Preparation of a generation's prompts: tokens as their concepts spell them, and the window of the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoodip_core.base_models.text_window import TextWindow, check_window
from zoodip_core.config import GenerationSettings
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_tokens import read_prompt, unused_concepts

_FIELDS = ("prompt", "negative_prompt")


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
) -> PreparedGeneration:
    """Read the prompts of a generation and validate that the base model reads every token in them.

    Args:
        settings: settings with the prompts as the user writes them.
        vectors: token → number of vectors, for each concept that the user has given or can mean.
        windows: windows of the base model's text encoders; None if its files are on another machine.
        expected: what a token in a prompt must be, for messages.

    Raises:
        UnknownTokenError: a prompt contains something that looks like a token and is none.
        InvalidCaptionError: a learned token lies beyond the window.
        InvalidSettingsError: a prompt is too long once its tokens have their own spelling.
    """
    vocabulary = windows[0].vocabulary if windows else None
    readings = {
        field: read_prompt(
            getattr(settings, field), vectors, field=field, expected=expected, vocabulary=vocabulary
        )
        for field in _FIELDS
    }
    texts = {field: reading.text for field, reading in readings.items()}
    warnings = [warning for reading in readings.values() for warning in reading.warnings]
    for field, text in texts.items():
        warnings += check_window(text, vectors, windows, field=field) if windows else []
    warnings += unused_concepts(vectors, readings.values())
    tokens = dict.fromkeys(token for reading in readings.values() for token in reading.tokens)
    return PreparedGeneration(
        GenerationSettings.parse(settings.model_dump() | texts), tuple(tokens), tuple(warnings)
    )
