"""The sweep: each row is the method with the changed settings that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import sweep
from benchmarks.quality.cli import embedded_model
from benchmarks.quality.learning.methods import METHODS, make_plans
from benchmarks.quality.run import RunOptions, Selection
from benchmarks.quality.sweep import VARIATIONS, Sweep, label
from zoodip_core.base_models.families import detect_family
from zoodip_core.base_models.model_folder import find_model_folder


def _validation_losses(text: str) -> list[str]:
    """Return the column of the first table, from top to bottom."""
    table = text.split("\n\n")[1]
    head, _, *lines = [line.split(" | ") for line in table.splitlines()]
    return [line[head.index("validation loss")] for line in lines]


def test_every_variation_is_allowed_and_changes_something() -> None:
    """All variations are valid, and no two have the same settings."""
    entry = embedded_model()
    family = detect_family(find_model_folder(entry))
    found = {
        str(make_plans(METHODS["paper"], entry, family, seed=0, forwards=(3000,), changes=dict(variation)))
        for variation in VARIATIONS
    }
    assert len(found) == len(VARIATIONS)


@pytest.mark.slow
def test_each_row_has_its_change(tmp_path: Path) -> None:
    """Two variations give two rows with different validation losses, named by the change, and their difference."""
    chosen = Selection(tmp_path, split="validation", subjects=1, prompts=1, pictures=1)
    text = sweep.run(Sweep("paper", RunOptions(chosen, ["paper"], 1, (6,)), ({}, {"learning_rate": 0.5})))
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith(("| paper", "| learning"))]
    assert [line[0] for line in lines] == ["| paper", "| learning_rate=0.5", "| learning_rate=0.5 − paper"]
    assert len(set(_validation_losses(text))) == 2
    assert (tmp_path / "sweep-paper.md").read_text() == text


@pytest.mark.slow
def test_change_overrides_set(tmp_path: Path) -> None:
    """The table has the method with --set, and each --change; a row for every number of evaluations."""
    small = "--subjects 1 --prompts 1 --pictures 1 --forwards 3,6"
    changes = "--set learning_rate=0.1 --change t_low=100,t_high=950 --change learning_rate=0.5"
    sweep.main([*small.split(), *changes.split(), "--out", str(tmp_path)])
    text = (tmp_path / "sweep-paper.md").read_text()
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and " − " not in line]
    names = ("| paper", "| t_low=100, t_high=950", "| learning_rate=0.5")
    assert [line[:2] for line in lines[2:8]] == [[name, count] for name in names for count in ("3", "6")]
    assert len(set(_validation_losses(text))) == 6  # three different searches, each after one and two steps
    assert "learning_rate=0.1" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("t_low", "NAME=VALUE"),
        ("t_low=100,papyrus=1", "papyrus"),
        ("n=0", "settings.n"),
        ("steps=50", "settings.steps: got 50; expected another setting"),
    ],
)
def test_an_invalid_change_is_refused_early(change: str, message: str, tmp_path: Path) -> None:
    """A bad change gives one message; nothing is searched or written."""
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--change", "mu=0.01", "--change", change, "--out", str(out)])
    assert message in str(ended.value)
    assert not out.exists()


def test_labels_name_the_changes() -> None:
    """Each variation has a distinct label."""
    labels = [label("paper", variation) for variation in VARIATIONS]
    assert labels[:2] == ["paper", "t_low=0, t_high=500"]
    assert len(set(labels)) == len(VARIATIONS)


@pytest.mark.parametrize("method", ["papyrus", "caption", "ti-0.02"])
def test_a_method_without_changes_is_refused(method: str, tmp_path: Path) -> None:
    """The message lists the forward-pass methods, even if a change is bad too."""
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        sweep.main(["--method", method, "--change", "papyrus=1", "--out", str(out)])
    allowed = "calibrated, full, gf-ti, paper, script, paper-puts, paper-sg, paper-neither"
    assert str(ended.value) == f"error: --method: got {method}; expected {allowed}"
    assert not out.exists()


def test_the_help_lists_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    """The help lists the forward-pass methods and no others."""
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    text = "".join(capsys.readouterr().out.split())  # without line breaks
    assert "calibrated,full,gf-ti,paper,script,paper-puts,paper-sg,paper-neither" in text
    assert "ti-0.02" not in text
