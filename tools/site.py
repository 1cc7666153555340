"""Build the static site of docs/ into site/, with a navigation that follows the folders.

`python -m tools.site` adds the navigation to `zensical.toml`, writes the result to `site.toml` and runs Zensical in
strict mode, where a link to a missing page or heading fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

SECTIONS = {
    "Tutorials": "tutorials",
    "How-to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
    "Experiments": "experiments",
    "Results": "results",
}


def navigation(docs: Path) -> dict[str, str | list[str]]:
    """Return the pages of each section by name, after its overview: `<folder>.md`, then `<folder>/README.md`."""
    pages: dict[str, str | list[str]] = {"Home": "index.md"}
    for title, folder in SECTIONS.items():
        found = sorted((docs / folder).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
        overview = [docs / f"{folder}.md"] if (docs / f"{folder}.md").exists() else []
        if overview or found:
            pages[title] = [page.relative_to(docs).as_posix() for page in overview + found]
    return pages


def configuration(root: Path) -> str:
    """Return the text of `zensical.toml` with the navigation."""
    text = (root / "zensical.toml").read_text(encoding="utf-8")
    docs = root / tomllib.loads(text)["project"]["docs_dir"]
    sections = navigation(docs).items()
    lines = [f"  {{ {json.dumps(title)} = {json.dumps(pages)} }}," for title, pages in sections]
    return text.replace("[project]\n", "\n".join(["[project]", "nav = [", *lines, "]", ""]), 1)


def build(root: Path) -> int:
    """Build the site from scratch; return the exit status."""
    (root / "site.toml").write_text(configuration(root), encoding="utf-8")
    shutil.rmtree(root / "site", ignore_errors=True)
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--strict", "--config-file", "site.toml"]
    return subprocess.run(command, cwd=root, check=False).returncode


if __name__ == "__main__":
    sys.exit(build(Path(__file__).parents[1]))
