"""The documentation builds as a static site that loads nothing from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.site import configuration

ROOT = Path(__file__).parents[3]
NO_NETWORK = ["unshare", "--map-root-user", "--net"]
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\" >]+)")


def _isolation() -> list[str]:
    """Return the command prefix that disables the network; empty if the kernel does not allow it."""
    if shutil.which("unshare") is None:
        return []
    allowed = subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    return NO_NETWORK if allowed else []


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    """The strict build succeeds, and every Markdown page has an HTML page."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "site.toml").write_text(configuration(ROOT))
    zensical = str(Path(sys.executable).with_name("zensical"))
    command = [*_isolation(), zensical, "build", "--strict", "--config-file", "site.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "docs").rglob("*.md"):
        name = "index" if page.stem == "README" else page.stem
        assert (tmp_path / "site" / page.relative_to(tmp_path / "docs")).with_name(f"{name}.html").exists()
    for page in (tmp_path / "site").rglob("*.html"):
        assert LOADED.findall(page.read_text(encoding="utf-8")) == []
