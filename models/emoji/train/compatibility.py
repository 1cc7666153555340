"""Check that weights match the settings: sizes, words and principal components."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models.emoji.errors import CheckpointError
from models.emoji.settings import PartSettings
from models.emoji.tokenizer import WORD_END, build_vocabulary
from models.emoji.train.checkpoint import read_checkpoint


def compatibility_key(
    settings: PartSettings, words: Sequence[str] = (), components: str = ""
) -> dict[str, Any]:
    """Return the values that a checkpoint must share with a training; they are stored in the checkpoint.

    Args:
        settings: of the part.
        words: of the embedding's rows, in order.
        components: digest of the principal components.
    """
    return {**settings.sizes, "words": list(words), "components": components}


def check_sizes(part: str, asked: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> None:
    """Validate that weights have the sizes in the settings.

    Raises:
        CheckpointError: a size differs.
    """
    for name, size in asked.items():
        if _plain(found.get(name)) != _plain(size):
            raise CheckpointError(
                f"{part}.{name}: got {_plain(size)}; expected {_plain(found.get(name))} as in {where} "
                "(use the settings of that training, or train with --from-scratch)"
            )


def check_words(asked: Sequence[str], found: Sequence[str], where: Path) -> None:
    """Validate that a checkpoint's embedding has the world's words in order.

    Raises:
        CheckpointError: the words differ.
    """
    if list(asked) == list(found):
        return
    new, gone = sorted(set(asked) - set(found)), sorted(set(found) - set(asked))
    raise CheckpointError(_words_differ(new, gone, where))


def check_vocabulary(words: Sequence[str], folder: Path) -> None:
    """Validate that the tokenizer of a model folder has exactly the world's words.

    Raises:
        CheckpointError: the words differ, or the tokenizer cannot be read.
    """
    path = folder / "tokenizer" / "vocab.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise CheckpointError(f"{path}: cannot read (missing or truncated)") from broken
    if found != build_vocabulary(words):
        new = [word for word in words if word + WORD_END not in found]
        raise CheckpointError(_words_differ(new, [], folder))


def _words_differ(new: Sequence[str], gone: Sequence[str], where: Path) -> str:
    """Return the message for a world and weights whose words differ."""
    changed = f"the word {new[0]!r} was added" if new else "a word was removed"
    changed = f"the word {gone[0]!r} was removed" if gone and not new else changed
    return f"{where}: trained with other words ({changed}); train with --from-scratch"


def read_compatible_checkpoint(path: Path, part: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of a part and check that it is compatible; None if there is no file.

    Raises:
        CheckpointError: the file is truncated, or of another part, settings, words or components.
    """
    state = read_checkpoint(path, part)
    if state is None:
        return None
    found = dict(state.get("made_for", {}))
    if found.keys() != asked.keys():
        raise CheckpointError(f"{path}: written by another version; remove it")
    check_words(asked["words"], found.pop("words"), path)
    if found.pop("components") != asked["components"]:
        raise CheckpointError(
            f"{path}: trained on other principal components than those of {path.parent}; restore its "
            "components.safetensors (no file means the committed ones), or train with --from-scratch"
        )
    check_sizes(part, {name: asked[name] for name in found}, found, path)
    return state


def read_averaged_weights(path: Path, part: str, asked: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
    """Read the averaged weights of a part's checkpoint; None if there is no file.

    Raises:
        CheckpointError: the checkpoint is truncated or incompatible.
    """
    state = read_compatible_checkpoint(path, part, asked)
    if state is None:
        return None
    average: dict[str, torch.Tensor] = state["optimiser"]["average"]
    return average


def _plain(size: Any) -> Any:
    return list(size) if isinstance(size, tuple | list) else size
