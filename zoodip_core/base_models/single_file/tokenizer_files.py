"""Writes CLIP's tokenizer, which a checkpoint in one file lacks, from the vocabulary in this package."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

_MERGES = Path(__file__).parents[2] / "assets" / "clip" / "merges.txt.gz"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_LENGTH = 77
OPEN_CLIP_PAD = "!"
"""Token that fills short texts of OpenCLIP's encoders; OpenAI's CLIP repeats the end token."""


def write_tokenizer(folder: Path, *, open_clip: bool) -> None:
    """Write vocab.json, merges.txt and the configuration of CLIP's tokenizer.

    Args:
        folder: destination; created.
        open_clip: whether the text encoder is OpenCLIP's.
    """
    folder.mkdir(parents=True)
    merges = gzip.decompress(_MERGES.read_bytes()).decode()
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    characters = _byte_characters()
    joined = (line.replace(" ", "") for line in merges.splitlines())
    tokens = [*characters, *(character + _WORD_END for character in characters), *joined, _START, _END]
    ids = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    pad = OPEN_CLIP_PAD if open_clip else _END
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": _LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def _byte_characters() -> list[str]:
    """Return the 256 printable characters that represent bytes, in the order of CLIP's vocabulary."""
    spans = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [byte for first, last in spans for byte in range(ord(first), ord(last) + 1)]
    others = len(set(range(256)).difference(printable))
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]
