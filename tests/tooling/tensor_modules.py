"""The modules of the core that handle tensors, found by their imports."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_IMPORTS_TORCH = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)


def tensor_modules() -> list[str]:
    """Return the dotted name of every module of the core that imports torch."""
    files = (ROOT / "zoodip_core").rglob("*.py")
    return sorted(_dotted(file) for file in files if _IMPORTS_TORCH.search(file.read_text(encoding="utf-8")))


def tensor_packages() -> list[str]:
    """Return the packages and modules directly below `zoodip_core` that hold a tensor module."""
    return sorted({".".join(name.split(".")[:2]) for name in tensor_modules()})


def _dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
