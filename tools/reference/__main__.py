"""Write the generated pages of docs/reference: `python -m tools.reference`."""

from __future__ import annotations

from pathlib import Path

from tools.reference import commands, errors, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES = {"settings.md": settings.page, "errors.md": errors.page, "cli.md": commands.page}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
