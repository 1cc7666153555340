"""The site's navigation follows the folders of docs/."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tools.site import configuration


def test_sections_follow_the_folders(tmp_path: Path) -> None:
    """Pages appear by name, overview pages first, and a section without pages is left out."""
    for name in ("index", "results", "results/styles", "results/README", "results/arms", "how-to/a"):
        page = tmp_path / "docs" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"# {name}\n")
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\ndocs_dir = "docs"\n')
    project = tomllib.loads(configuration(tmp_path))["project"]
    assert project["site_name"] == "x"
    assert project["nav"] == [
        {"Home": "index.md"},
        {"How-to": ["how-to/a.md"]},
        {"Results": ["results.md", "results/README.md", "results/arms.md", "results/styles.md"]},
    ]
