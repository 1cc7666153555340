"""Catalog files of base models."""

from pathlib import Path


def write_catalog(folder: Path, text: str) -> Path:
    """Write a catalog file next to a folder `sd15`."""
    (folder / "sd15").mkdir(exist_ok=True)
    path = folder / "models.toml"
    path.write_text(text)
    return path
