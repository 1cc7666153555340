"""Whether weights fit what is asked for: the same sizes, the same words, the same components."""

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
    """What a checkpoint's weights are made for, kept beside them.

    Args:
        settings: of the part.
        words: that the rows of its embedding stand for, in order.
        components: the digest of the map between pictures and its latents.
    """
    return {**settings.sizes, "words": list(words), "components": components}


def check_sizes(part: str, asked: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> None:
    """Pass if weights have the sizes that the settings ask for.

    Raises:
        CheckpointError: names the first setting that differs, and both values.
    """
    for name, size in asked.items():
        if _plain(found.get(name)) != _plain(size):
            raise CheckpointError(
                f"{part}.{name} is {_plain(size)} in the settings, but {where} has {_plain(found.get(name))}: "
                "give the settings that it was trained with, or train from fresh weights (--anew)"
            )


def check_words(asked: Sequence[str], found: Sequence[str], where: Path) -> None:
    """Pass if the rows of a checkpoint's embedding stand for the world's words, in order.

    Raises:
        CheckpointError: names the first word that only one of the two has.
    """
    if list(asked) == list(found):
        return
    new, gone = sorted(set(asked) - set(found)), sorted(set(found) - set(asked))
    raise CheckpointError(_unknown_words(new, f" {gone[0]!r}" if gone else "", where))


def check_vocabulary(words: Sequence[str], folder: Path) -> None:
    """Pass if the tokenizer of a model folder has exactly the world's words.

    Raises:
        CheckpointError: it has others, or cannot be read.
    """
    path = folder / "tokenizer" / "vocab.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as broken:
        raise CheckpointError(f"{path} cannot be read (missing or truncated)") from broken
    if found != build_vocabulary(words):
        new = [word for word in words if word + WORD_END not in found]
        raise CheckpointError(_unknown_words(new, "", folder))


def _unknown_words(new: Sequence[str], gone: str, where: Path) -> str:
    """The message of a world and weights whose words differ."""
    which = f"the world has the new word {new[0]!r}, which" if new else f"the world lacks a word{gone} that"
    without = "was not" if new else "was"
    return f"{which} {where} {without} trained with: train from fresh weights (--anew)"


def read_compatible_checkpoint(path: Path, part: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of a part, made for what is asked; None if there is no file.

    Raises:
        CheckpointError: it is truncated, another part's, or made for something else; says what.
    """
    state = read_checkpoint(path, part)
    if state is None:
        return None
    found = dict(state.get("made_for", {}))
    if found.keys() != asked.keys():
        raise CheckpointError(
            f"{path} does not say what it was made for (another version wrote it): remove it"
        )
    check_words(asked["words"], found.pop("words"), path)
    if found.pop("components") != asked["components"]:
        raise CheckpointError(
            f"{path} was trained on other principal components than those of {path.parent}: "
            "put back its components.safetensors (none, for the committed ones), or train from fresh weights"
        )
    check_sizes(part, {name: asked[name] for name in found}, found, path)
    return state


def read_averaged_weights(path: Path, part: str, asked: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
    """The averaged weights of a part's checkpoint, or None without one.

    Raises:
        CheckpointError: the checkpoint is truncated, another part's, or made for something else than what is asked.
    """
    state = read_compatible_checkpoint(path, part, asked)
    if state is None:
        return None
    average: dict[str, torch.Tensor] = state["optimiser"]["average"]
    return average


def _plain(size: Any) -> Any:
    return list(size) if isinstance(size, tuple | list) else size
