"""Every relative link in Markdown files resolves to an existing file and heading."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^ *\2[`~]*[ \t]*$|(`+)[^`]+\3", re.DOTALL | re.MULTILINE)
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"  # [text](target "title"), ![text](target)
    r"|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$"  # [name]: target
    r"|<(?:a|img)\b[^>]*?(?:href|src)=\"([^\"]+)\"",
    re.MULTILINE,
)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")


def _pages() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub and the site give to the headings of a page."""
    text = page.read_text(encoding="utf-8")
    found: list[str] = re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)
    for heading in HEADING.findall(
        re.sub(r"^( *)(`{3,}).*?^ *\2$", "", text, flags=re.DOTALL | re.MULTILINE)
    ):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def _fault(page: Path, target: str) -> str | None:
    """Return the reason why a link of a page does not resolve, or None."""
    if EXTERNAL.match(target):
        return None
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(ROOT) or not file.exists():
        return f"{target}: no such file"
    if anchor and file.suffix == ".md" and anchor not in _anchors(file):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("name", _pages())
def test_relative_links_resolve(name: str) -> None:
    """Links outside code resolve; links to other hosts are not checked."""
    page = ROOT / name
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    faults = [_fault(page, next(filter(None, groups))) for groups in LINK.findall(text)]
    assert [fault for fault in faults if fault] == []
