"""Early stopping: the rule of `stop="auto"`, and searches that it ends."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.early_stopping import MIN_MEASUREMENTS, has_stalled
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run import Outcome, run_search
from zoodip_core.personalization.subject import Subject

DOG = Subject("<x>", "dog")
STILL = {"steps": 40, "n": 1, "fixed_rows": 2, "measure_every": 2, "learning_rate": 1e-12}
"""Settings of a search whose learning rate is too small to change the loss."""


def test_a_falling_loss_has_not_stalled() -> None:
    """A steady decrease never stops a search; a plateau does once it is a third of all measurements."""
    falling = [1.0 - 0.01 * k for k in range(51)]
    assert not any(has_stalled(falling[:k], share=1.0) for k in range(1, 52))
    flat = falling[:20] + [falling[19]] * 10
    assert [has_stalled(flat[:k], share=1.0) for k in (28, 29, 30)] == [False, False, True]


def test_the_measurement_interval_does_not_matter() -> None:
    """The same curve, measured twice as often, stops at the same point."""
    curve = [1.0 + 0.5 * 0.9**k for k in range(200)]
    stop = next(k for k in range(200) if has_stalled(curve[: k + 1], share=1.0))
    finer = [1.0 + 0.5 * 0.9 ** (k / 2) for k in range(400)]
    assert abs(next(k for k in range(400) if has_stalled(finer[: k + 1], share=1.0)) - 2 * stop) <= 2


def test_few_measurements_never_stop_a_search() -> None:
    """A search with fewer than the minimum of measurements is not stopped, even on a plateau."""
    assert not has_stalled([1.0] * (MIN_MEASUREMENTS - 1), share=1.0)
    assert has_stalled([1.0] * MIN_MEASUREMENTS, share=1.0)


def test_a_loss_that_rises_has_stalled() -> None:
    """A loss that rises again counts as stalled."""
    assert has_stalled([1.0, 0.8, 0.7, 0.7, 0.9, 0.95], share=1.0)


def test_a_plateau_in_the_first_quarter_does_not_stop() -> None:
    """The loss can plateau early and then fall steeply."""
    assert not has_stalled([1.0] * 20, share=0.24)
    assert has_stalled([1.0] * 20, share=0.25)


def _run(personalization: Personalization, *, until: int = 1000) -> Outcome:
    return run_search(
        personalization,
        on_progress=lambda _: None,
        save=lambda _: None,
        should_stop=lambda: personalization.step >= until,
    )


@pytest.mark.slow
def test_auto_ends_a_stalled_search(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """`stop="auto"` ends a stalled search at the minimum of measurements; `stop="steps"` completes all steps."""
    settings = PersonalizationSettings.parse(STILL | {"stop": "auto"})
    outcome = _run(Personalization.begin(bundles["sd1"], DOG, pictures, settings))
    assert outcome.finished
    assert outcome.stopped_early
    assert outcome.steps == (MIN_MEASUREMENTS - 1) * settings.measure_every
    whole = _run(Personalization.begin(bundles["sd1"], DOG, pictures, PersonalizationSettings.parse(STILL)))
    assert (whole.steps, whole.finished, whole.stopped_early) == (40, True, False)


@pytest.mark.slow
def test_a_resumed_search_stops_at_the_same_step(
    bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """Earlier measurements count after a resume, so the step and the result are identical."""
    settings = PersonalizationSettings.parse(STILL | {"stop": "auto", "learning_rate": 1e-6})
    whole = Personalization.begin(bundles["sd1"], DOG, pictures, settings)
    _run(whole)
    first = Personalization.begin(bundles["sd1"], DOG, pictures, settings)
    assert not _run(first, until=5).finished
    second = Personalization.begin(bundles["sd1"], DOG, pictures, settings, first.state())
    _run(second)
    assert second.step == whole.step < settings.steps
    assert second.fixed_losses == whole.fixed_losses
    assert torch.equal(second.search.theta, whole.search.theta)
