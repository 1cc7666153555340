"""EmojiBooth's command line: early error messages, and the sentence above the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import __main__ as command
from benchmarks.quality.cli import describe, embedded_model
from benchmarks.quality.run import Selection
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.model_folder import find_model_folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forwards", "3k"], r"error: --forwards: got 3k; expected whole numbers"),
        (["--seeds", "0"], r"error: --seeds: got 0; expected 1 or more"),
        (["--pictures", "-1"], r"error: --pictures: got -1; expected 1 or more"),
        (["--set", "n"], r"error: set: got 'n'; expected NAME=VALUE"),
        (
            ["--calibration", "none.safetensors"],
            r"error: --calibration: got none.safetensors; expected a file",
        ),
        (
            ["--methods", "full,paper", "--pairs", "full"],
            r"error: --pairs: got full; expected two of --methods",
        ),
    ],
)
def test_bad_options_give_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    """A bad option ends the run with one message before anything is written."""
    with pytest.raises(SystemExit, match=message):
        command.main(["--out", str(tmp_path / "out"), *arguments])
    assert not list(tmp_path.iterdir())


def test_the_table_has_a_description() -> None:
    """The sentence above the table has cases, prompts, pictures, changes and weights."""
    entry = embedded_model()
    chosen = Selection(
        Path(), prompts=7, pictures=2, changes={"n": 4}, calibration=Path("/files/c.safetensors")
    )
    text = describe(chosen, 5, entry)
    assert text.startswith(
        "5 held-out subjects of the test split, 7 prompts × 2 pictures, n=4, calibration c.safetensors; weights "
    )
    assert text.endswith(fingerprint(find_model_folder(entry))[:12])
