"""Parts of the calibrated search: each replacement changes the search, and none stays after its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.quality import parts
from benchmarks.quality.cases.subjects import make_cases
from benchmarks.quality.cli import embedded_model
from benchmarks.quality.learning import snapshots
from benchmarks.quality.learning.forward import ForwardLearner
from benchmarks.quality.learning.methods import METHODS, make_plans
from benchmarks.quality.learning.other_steps import MOMENTUM, AdamSteps, MomentumSteps
from benchmarks.quality.parts import COMPLETE, PARTS, Part, part_entry, replaced
from models.emoji.world import shipped_world
from tests.unit.zeroth_order.linear_model import SETTINGS, D, K, advance, excess, space
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.personalization.search_spaces import SEARCHES
from zoodip_core.zeroth_order import gauss_newton, search_space, start_comparison
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.measured_values import Curvature

STEPS = 2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Return the embedded model."""
    return load_bundle(embedded_model(), device="cpu")


@pytest.fixture(scope="module")
def complete(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """Return the token of the complete search after a few steps."""
    return _token(bundle, PARTS[COMPLETE], tmp_path_factory.mktemp("complete"))


def _token(bundle: Bundle, part: Part, folder: Path) -> Tensor:
    """Return the token of a search with a replaced part after a few steps."""
    entry, cases = (
        part_entry(part, embedded_model(), folder),
        make_cases(shipped_world(), "subjects", "test", 1),
    )
    changes = dict(part.changes) | {"fixed_rows": 1}
    with replaced(part):
        (plan,) = make_plans(
            METHODS["calibrated"], entry, bundle.family, seed=0, forwards=(900,), changes=changes
        )
        learner = ForwardLearner(replace(bundle, calibration=entry.calibration), cases, [plan.settings])
        for _ in range(STEPS):
            learner.advance()
    return learner.tokens()[0]


def _constants() -> list[object]:
    """Return everything that a part can patch."""
    modules = (gauss_newton, search_space, start_comparison)
    values = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, float | int)
    ]
    return [*values, dict(SEARCHES), snapshots.CONSTANTS]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_every_part_changes_the_search(name: str, bundle: Bundle, complete: Tensor, tmp_path: Path) -> None:
    """The token differs from that of the complete search, whose second run gives the same bits."""
    assert _token(bundle, PARTS[name], tmp_path).equal(complete) == (name == COMPLETE)


@pytest.mark.parametrize("name", PARTS)
def test_constants_are_restored(name: str) -> None:
    """After a run that fails, all constants and the search are those from before, which the part changed."""
    before = _constants()

    def fail() -> None:
        with replaced(PARTS[name]):
            assert _constants() != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert _constants() == before


def test_parts_differ() -> None:
    """No two parts replace the same."""
    found = list(PARTS.values())
    assert all(part not in found[:index] for index, part in enumerate(found))


@pytest.mark.parametrize("search", [AdamSteps, MomentumSteps])
def test_other_steps_learn_and_resume(search: type[GaussNewtonSearch]) -> None:
    """They lose half of the excess loss on the linear model, and resume bit for bit."""
    settings = SETTINGS.model_copy(update={"n": 4, "adam_eps": 1e-8})
    goal = torch.cat([torch.ones(K), torch.zeros(D - K)])
    first = search(torch.zeros(D), settings, images=1, space=space())
    advance(first, goal, torch.Generator().manual_seed(0), 100)
    assert excess(first.theta, goal) < 0.5 * excess(torch.zeros(D), goal)
    second = search.restore(first.state(), settings, images=1, space=space())
    for one in (first, second):
        advance(one, goal, torch.Generator().manual_seed(1), 10)
    assert first.theta.equal(second.theta)


def test_momentum_step_is_the_damped_step() -> None:
    """The first step solves (M + mean(diag M) I) a = −D, and moves by its share of Eᵀa."""
    one = MomentumSteps(torch.zeros(D), SETTINGS, images=1, space=space())
    matrix, derivatives = torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([0.2, -0.1])
    directions = (one.ask().candidates[1:] - one.ask().candidates[0]) / SETTINGS.mu
    one.tell(Curvature(derivatives, matrix, torch.ones(3)))
    amounts = -torch.linalg.inv(matrix + 2 * torch.eye(2)) @ derivatives
    torch.testing.assert_close(one.theta, 0.3 * (1 - MOMENTUM) * amounts @ directions, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_the_table_has_a_line_for_each_part(tmp_path: Path) -> None:
    """Each part has a row and a folder. The second row also has its difference from the first."""
    small = "--subjects 1 --prompts 1 --pictures 1 --forwards 18 --seeds 1 --set fixed_rows=1"
    parts.main([*small.split(), "--parts", "complete,flat-curvature", "--out", str(tmp_path)])
    text = (tmp_path / "parts.md").read_text()
    head, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    losses = [float(line[head.index("validation loss")]) for line in lines]
    assert [line[0] for line in lines] == ["complete", "flat-curvature"]
    assert lines[0][-1] == "–"
    assert float(lines[1][-1]) == pytest.approx(losses[1] - losses[0], abs=2e-4)  # both are rounded
    assert "1 search seeds for each case" in text
    for name in ("complete", "flat-curvature"):
        assert len((tmp_path / name / "results.jsonl").read_text().splitlines()) == 1


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    """The message lists the parts, and nothing is written."""
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        parts.main(["--parts", "complete,papyrus", "--out", str(out)])
    assert str(ended.value) == f"error: --parts: got papyrus; expected {', '.join(PARTS)}"
    assert not out.exists()
