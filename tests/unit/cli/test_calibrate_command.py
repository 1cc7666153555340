"""`zoodip calibrate`: options that are refused before the base model is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zoodip_core.cli.main import run


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """Run the command, which must exit with 2, and return its message."""
    monkeypatch.setattr(sys, "argv", ["zoodip", "calibrate", *map(str, options)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("seed", [2**32, 99999999999999999])
def test_a_seed_beyond_the_maximum_is_refused_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """Pictures have 1,000 times this seed, which must be a seed as well."""
    message = refusal(monkeypatch, capsys, "--seed", seed)
    assert "--seed" in message
    assert "4294967295" in message


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "out: got the folder"),
        ("/dev/null", "out: got the device /dev/null; expected a new or regular file"),
        ("missing/c.safetensors", "whose folder is missing or not writable"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    out: str,
    message: str,
) -> None:
    """`--replace` does not help, and no model is loaded."""
    monkeypatch.setattr("zoodip_core.diffusion.loading.load_bundle", pytest.fail)
    assert message in refusal(monkeypatch, capsys, "--out", tmp_path / out, "--replace")
