"""The `--concept` option: reads concept files and settles the token of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoodip_core.artifact import Concept, ConceptFile, read_concept_file
from zoodip_core.errors import InvalidArtifactError, InvalidInputError, InvalidTokenError
from zoodip_core.input_warnings import InputWarning, WarningCode
from zoodip_core.prompt_tokens import normalized_token


def read_concepts(options: Sequence[str]) -> tuple[list[Concept], list[InputWarning]]:
    """Read the concept of each option, FILE or FILE=TOKEN.

    Returns:
        The concepts, and a warning for each token that its file spells in another way.

    Raises:
        InvalidArtifactError: a file is no concept.
        InvalidTokenError: a token is malformed, or neither the option nor the file gives one.
        InvalidInputError: two concepts have the same token.
    """
    concepts: dict[str, Concept] = {}
    warnings = []
    for option in options:
        path, token = _split(option)
        file = _read(path)
        concept = file.concept(token)
        if concept.token in concepts:
            raise InvalidInputError.mismatch(
                "concept",
                got=f"{concept.token} twice",
                expected=f"each token once; {path}='<other>' gives a file another token",
            )
        concepts[concept.token] = concept
        if token is None and file.is_respelled:
            message = f"{path} spells its token {file.header.token!r}; it is read as {concept.token}"
            warnings.append(InputWarning(WarningCode.SPELLING_CORRECTED, "concept", message))
    return list(concepts.values()), warnings


def _read(path: Path) -> ConceptFile:
    """Read a concept file; an error names the file, because there can be several."""
    try:
        return read_concept_file(path)
    except InvalidArtifactError as error:
        message = error.message.removeprefix("concept: ")
        raise InvalidArtifactError(f"concept[{path.name}]: {message}", field="concept") from error


def _split(option: str) -> tuple[Path, str | None]:
    """Return file and token of an option. A file whose name contains `=` is found, too."""
    name, separator, text = option.rpartition("=")
    if not separator or Path(option).exists():
        return Path(option), None
    token = normalized_token(text)
    if token is None:
        raise InvalidTokenError.mismatch(
            "concept",
            got=repr(option),
            expected="FILE or FILE='<token>', such as my-dog.safetensors='<my-dog>'",
        )
    return Path(name), token
