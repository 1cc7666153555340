"""EmojiBooth's command line: mistakes are told before a model is loaded, and the table says what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import __main__ as command
from benchmarks.quality.cli import describe, embedded_model
from benchmarks.quality.run import Selection
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.diffusion.loading import locate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forwards", "3k"], r"error: --forwards 3k: allowed: whole numbers"),
        (["--seeds", "0"], r"error: --seeds 0: allowed: 1 or more"),
        (["--pictures", "-1"], r"error: --pictures -1: allowed: 1 or more"),
        (["--set", "n"], r"error: --set 'n': allowed: NAME=VALUE"),
        (
            ["--methods", "default,paper", "--pairs", "default"],
            r"error: --pairs default: allowed: two of --methods",
        ),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    """A bad option ends the run with what came and what is allowed, before anything is made."""
    with pytest.raises(SystemExit, match=message):
        command.main(["--out", str(tmp_path / "out"), *arguments])
    assert not list(tmp_path.iterdir())


def test_the_table_says_what_it_is_made_of() -> None:
    """Numbers of cases, prompts and pictures, changed settings and the weights stand above the table."""
    entry = embedded_model()
    text = describe(Selection(Path(), prompts=7, pictures=2, changes={"n": 4}), 5, entry)
    assert text.startswith("5 held-out subjects of the report half, 7 prompts × 2 pictures, n=4; weights ")
    assert text.endswith(fingerprint(locate(entry))[:12])
