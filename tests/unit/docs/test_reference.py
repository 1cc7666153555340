"""The committed reference pages equal those generated from the code."""

from __future__ import annotations

import pytest

from tools.reference.__main__ import FOLDER, PAGES
from tools.reference.markdown import table


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_up_to_date(name: str) -> None:
    """`make reference` would not change the page."""
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `make reference`"


@pytest.mark.parametrize("name", PAGES)
def test_every_entry_has_a_description(name: str) -> None:
    """Every setting, error and option has a description in the code."""
    assert [line for line in PAGES[name]().splitlines() if line.endswith("|  |")] == []


def test_cells_escape_special_characters() -> None:
    """Angle brackets outside code and vertical bars are escaped; line breaks become spaces."""
    assert table(["a"], [["<x> `<y>`\na|b"]]).splitlines()[-1] == r"| &lt;x> `<y>` a\|b |"
