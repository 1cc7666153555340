"""The loop of one personalization: progress, checkpoints and its end."""

from __future__ import annotations

import pytest
from PIL import Image

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run import Progress, run_search
from zoodip_core.personalization.subject import Subject

QUICK = {"steps": 7, "n": 1, "fixed_rows": 2, "measure_every": 3, "checkpoint_every": 3}


def _begin(bundle: Bundle, pictures: list[Image.Image], **values: float) -> Personalization:
    settings = PersonalizationSettings.parse(QUICK | values)
    return Personalization.begin(bundle, Subject("<x>", "dog"), pictures, settings)


def test_progress_and_checkpoints(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """Each step reports progress, checkpoints follow their interval, and the last loss is measured at the end."""
    reported: list[Progress] = []
    saved: list[int] = []
    learned = _begin(bundles["sd1"], pictures)
    outcome = run_search(
        learned, on_progress=reported.append, save=lambda p: saved.append(p.step), should_stop=lambda: False
    )
    assert [p.step for p in reported] == [1, 2, 3, 4, 5, 6, 7]
    assert saved == [3, 6]
    assert outcome.finished
    assert (outcome.steps, outcome.forwards) == (7, 14)
    assert reported[0].fixed_loss == outcome.fixed_loss_start
    assert reported[2].fixed_loss != outcome.fixed_loss_start
    assert outcome.fixed_loss_end == learned.measure_validation_loss()
    assert reported[-1].eta_s == 0


def test_interrupted_between_steps(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """An interrupted run saves a checkpoint and reports that it did not finish."""
    saved: list[int] = []
    learned = _begin(bundles["sd1"], pictures)
    outcome = run_search(
        learned,
        on_progress=lambda _: None,
        save=lambda p: saved.append(p.step),
        should_stop=lambda: learned.step == 4,
    )
    assert not outcome.finished
    assert saved == [3, 4]


def test_a_search_that_diverges(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """A NaN loss ends the run with a typed error; the embedding stays finite."""
    learned = _begin(bundles["sd1"], pictures, learning_rate=1e30)
    with pytest.raises(LossNotFiniteError, match="step"):
        run_search(learned, on_progress=lambda _: None, save=lambda _: None, should_stop=lambda: False)
    assert learned.search.theta.isfinite().all()
