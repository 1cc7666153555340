"""Prompt sets: several prompts of one generation, with `{token}` filled for each of several concepts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zoodip_core.base_models.text_window import TextWindow, check_window
from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidInputError
from zoodip_core.generation_prompts import PreparedGeneration, prepare_prompts
from zoodip_core.prompt_weights import parse_prompt, text_of

PLACEHOLDER = "{token}"
MAX_PROMPTS = 64
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")


@dataclass(frozen=True)
class FilledPrompt:
    """A prompt of a set for one concept.

    Attributes:
        template: the prompt as the user writes it.
        concept: token that replaces `{token}`; None if the template does not contain it.
        index: position of the template in the set; None for a prompt that is not part of a set.
    """

    template: str
    concept: str | None = None
    index: int | None = None

    @property
    def field(self) -> str:
        """Name of the template's field, for messages."""
        return "prompt" if self.index is None else f"prompts[{self.index}]"

    @property
    def text(self) -> str:
        """The template with its concept."""
        return self.template if self.concept is None else self.template.replace(PLACEHOLDER, self.concept)


def fill_prompts(templates: Sequence[str], tokens: Sequence[str]) -> list[FilledPrompt]:
    """Return each template once for each token, or once if it does not contain `{token}`.

    Args:
        templates: the prompts of a set.
        tokens: tokens of the concepts that replace `{token}`.

    Raises:
        InvalidInputError: there are no templates or too many, one has another placeholder, `{token}` has no concept,
            or a concept has no `{token}`.
    """
    if not 1 <= len(templates) <= MAX_PROMPTS:
        raise InvalidInputError.mismatch(
            "prompts", got=f"{len(templates)} prompts", expected=f"1 to {MAX_PROMPTS}"
        )
    for k, token in enumerate(tokens):
        if token in tokens[:k]:
            raise InvalidInputError.mismatch(
                f"concepts[{k}]", got=f"{token} twice", expected="each concept once"
            )
    filled = [one for k, template in enumerate(templates) for one in _fill(template, tokens, k)]
    if tokens and all(one.concept is None for one in filled):
        raise InvalidInputError.mismatch(
            "concepts", got=", ".join(tokens), expected=f"none, because no prompt contains {PLACEHOLDER}"
        )
    return filled


def _fill(template: str, tokens: Sequence[str], index: int) -> list[FilledPrompt]:
    field = FilledPrompt(template, index=index).field
    if not template.strip():
        raise InvalidInputError.mismatch(field, got=repr(template), expected="a prompt")
    for placeholder in _BRACES.findall(template):
        if placeholder != PLACEHOLDER:
            raise InvalidInputError.mismatch(
                field, got=placeholder, expected=f"no braces except those of {PLACEHOLDER}"
            )
    if PLACEHOLDER not in template:
        return [FilledPrompt(template, None, index)]
    if not tokens:
        raise InvalidInputError.mismatch(
            "concepts", got="none", expected=f"at least one, because {field} contains {PLACEHOLDER}"
        )
    return [FilledPrompt(template, token, index) for token in tokens]


def prepare_set(
    settings: GenerationSettings,
    prompts: Sequence[FilledPrompt],
    vectors_of: Callable[[str], Mapping[str, int]],
    windows: Sequence[TextWindow] | None,
    *,
    expected: str,
) -> list[PreparedGeneration]:
    """Read each prompt of a set as `prepare_prompts` does.

    All prompts are drawn in one batch, so each must fit into the text window unless it is truncated.

    Args:
        settings: settings that all prompts share.
        prompts: the filled prompts.
        vectors_of: returns token → number of vectors, for each concept that the text of a prompt can mean.
        windows: windows of the base model's text encoders; None if its files are on another machine.
        expected: what a token in a prompt must be, for messages.

    Raises:
        ZoodipError: as in `prepare_prompts`; names the field of the prompt.
        InvalidInputError: a prompt is longer than the text window.
    """
    prepared = []
    for one in prompts:
        vectors = vectors_of(one.text)
        own = GenerationSettings.parse(settings.model_dump() | {"prompt": one.text})
        read = prepare_prompts(own, vectors, windows, expected=expected, field=one.field)
        if windows and settings.long_prompts == "chunks":
            _check_length(read.settings, vectors, windows, one.field)
        prepared.append(read)
    return prepared


def _check_length(
    settings: GenerationSettings, vectors: Mapping[str, int], windows: Sequence[TextWindow], field: str
) -> None:
    text = text_of(parse_prompt(settings.prompt, settings.prompt_syntax))
    too_long = check_window(text, vectors, windows, field=field)
    if too_long:
        raise InvalidInputError.mismatch(
            field,
            got="a prompt longer than the text window",
            expected=f"a shorter one, or long_prompts=truncate: {too_long[0].message}",
        )
