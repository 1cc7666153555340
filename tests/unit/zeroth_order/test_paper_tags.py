"""Paper tags: each is in the code once, and docs/explanation/algorithm.md names existing code and tests."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PRINTED = {f"Alg. 1 l.{line}" for line in range(1, 11)} | {f"Alg. 2 l.{line}" for line in range(2, 7)}


def test_every_line_of_both_algorithms_is_tagged_exactly_once() -> None:
    """A search for `Alg. 1 l.6` finds one statement. Lines 11 and 12 of Alg. 1 only end blocks and have no tag."""
    source = "\n".join(path.read_text() for path in sorted((ROOT / "zoodip_core").rglob("*.py")))
    assert Counter(re.findall(r"Alg\. [12] l\.\d+", source)) == dict.fromkeys(PRINTED, 1)


def test_tags_are_comments_at_the_end_of_a_statement() -> None:
    """A tag follows the code that implements the line; it is not in a docstring."""
    for path in sorted((ROOT / "zoodip_core" / "zeroth_order").glob("*.py")):
        for line in path.read_text().splitlines():
            if re.search(r"Alg\. [12] l\.\d", line):
                assert re.fullmatch(r" +[^#\s][^#]*  # Alg\. [12] l\.\d+", line), f"{path.name}: {line}"


def test_the_document_maps_every_tag() -> None:
    """The page docs/explanation/algorithm.md has a row for every tagged line."""
    text = (ROOT / "docs" / "explanation" / "algorithm.md").read_text()
    assert not {tag for tag in PRINTED if f"`{tag}`" not in text}


def test_the_document_names_only_what_exists() -> None:
    """Every `file:name` in docs/explanation/algorithm.md, code or test, is defined in that file."""
    text = (ROOT / "docs" / "explanation" / "algorithm.md").read_text()
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(named) > 40
    for file, name in named:
        path = next(
            (
                base / file
                for base in (ROOT / "zoodip_core", ROOT / "tests" / "unit")
                if (base / file).exists()
            ),
            None,
        )
        assert path, f"{file} does not exist"
        source = path.read_text()
        for part in name.split("."):
            assert re.search(rf"(?:def|class) {part}\b|^{part}\b.*=", source, re.MULTILINE), f"{file}:{name}"
