"""Prompts of `zoodip generate`: one prompt, or a prompt set from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoodip_core.errors import InvalidInputError

if TYPE_CHECKING:
    from zoodip_core.prompt_sets import FilledPrompt

_MAX_BYTES = 1_000_000


def _read(path: Path) -> list[str]:
    """Return the prompts of a text file, one a line. Empty lines are left out.

    Raises:
        InvalidInputError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InvalidInputError.mismatch("prompts", got=f"{path}, a larger file", expected="at most 1 MB")
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidInputError.mismatch(
            "prompts", got=f"{path} ({error.strerror})", expected="a text file with one prompt a line"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError.mismatch(
            "prompts", got=f"{path}, which is not UTF-8", expected="a text file with one prompt a line"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def requested_prompts(prompt: str | None, file: Path | None, tokens: Sequence[str]) -> list[FilledPrompt]:
    """Return the prompts of the options.

    Raises:
        InvalidInputError: there is no prompt, both options are given, or the prompt set is not valid.
    """
    from zoodip_core.prompt_sets import PLACEHOLDER, FilledPrompt, fill_prompts

    if file is None and prompt is not None:
        return [FilledPrompt(prompt)]
    if file is None or prompt is not None:
        got = "nothing" if file is None else "both --prompt and --prompts"
        raise InvalidInputError.mismatch("prompt", got=got, expected="one of --prompt and --prompts")
    templates = _read(file)
    fills = any(PLACEHOLDER in template for template in templates)
    return fill_prompts(templates, tokens if fills else [])  # prompts can also name the tokens themselves
