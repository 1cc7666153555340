"""The public library: `from zoodip_core import …`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import zoodip_core

LIBRARY_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "library.md"


@pytest.mark.parametrize("name", zoodip_core.__all__)
def test_each_public_name_loads_and_is_documented(name: str) -> None:
    """The name has a docstring, and the library page describes it."""
    assert getattr(zoodip_core, name).__doc__
    assert f"`{name}" in LIBRARY_PAGE.read_text(encoding="utf-8")


def test_importing_the_package_loads_no_library() -> None:
    """The import stays fast: neither torch nor pydantic is loaded before a name is used."""
    code = "import sys, zoodip_core; sys.exit(bool({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelled name raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Catalogue'"):
        _ = zoodip_core.Catalogue
