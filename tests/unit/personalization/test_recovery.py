"""A loss that is not finite: another sample, then the last checkpoint, then an error."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine, Request
from zoodip_core.errors import InvalidCheckpointError, LossNotFiniteError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.personalization.subject import Subject

pytestmark = pytest.mark.slow

SETTINGS = PersonalizationSettings(steps=8, n=1, tau=2, fixed_rows=2, t_low=100, t_high=900)


class _FaultyEngine(Engine):
    """Engine whose next `faults` evaluations predict NaN for the last request."""

    faults = 0

    def evaluate(self, requests: Sequence[Request]) -> list[Tensor]:
        predictions = super().evaluate(requests)
        if self.faults:
            self.faults -= 1
            predictions[-1] = predictions[-1] * float("nan")
        return predictions


@pytest.fixture
def engine(bundles: dict[str, Bundle]) -> _FaultyEngine:
    """Return an engine without faults."""
    return _FaultyEngine(bundles["sd1"])


@pytest.fixture
def learned(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> Personalization:
    """Return a new search."""
    return Personalization.begin(bundles["sd1"], Subject("<x>", "dog"), pictures, SETTINGS)


def _recorded(personalization: Personalization) -> list[Recovery]:
    found: list[Recovery] = []
    personalization.on_recovery = found.append
    return found


def test_a_bad_step_is_drawn_again(engine: _FaultyEngine, learned: Personalization) -> None:
    """Up to three times, with another sample. The next step has three attempts again."""
    recoveries = _recorded(learned)
    first = learned.search.ask()
    engine.faults = 3
    assert engine.step([learned]) == [None]
    assert learned.step == 1
    assert [(one.kind, one.step) for one in recoveries] == [("redrawn", 0)] * 3
    assert "step 1 was not finite; drawing another sample (3 of 3)" in recoveries[2].message
    assert learned.search.ask().noise_seed != first.noise_seed
    engine.faults = 3
    assert engine.step([learned]) == [None]
    assert len(recoveries) == 6


def test_other_searches_advance_once(
    engine: _FaultyEngine, learned: Personalization, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """The repetitions of one search are not steps of the others in its batch."""
    other = Personalization.begin(bundles["sd1"], Subject("<y>", "cat"), pictures, SETTINGS)
    engine.faults = 2
    assert engine.step([other, learned]) == [None, None]
    assert (other.step, learned.step) == (1, 1)


def test_then_the_last_checkpoint_is_restored_with_half_the_rate(
    engine: _FaultyEngine, learned: Personalization
) -> None:
    """The fourth fault goes back to the last state; the next step starts from it, with another sample."""
    for _ in range(3):
        engine.step([learned])
    kept = learned.state()
    engine.step([learned])
    recoveries = _recorded(learned)
    engine.faults = 4
    assert engine.step([learned]) == [None]
    assert learned.step == 4
    assert [(one.kind, one.step) for one in recoveries[3:]] == [("restored", 4)]
    assert recoveries[3].message.endswith("from step 3 with other samples and the learning rate 0.0025")
    usual = Personalization(learned.bundle, learned.subject, learned.references, SETTINGS, kept)
    usual.search.ask()
    usual.search.redraw()
    engine.step([usual])
    moved, usually = learned.search.theta - kept["theta"], usual.search.theta - kept["theta"]
    torch.testing.assert_close(moved, usually / 2, rtol=1e-3, atol=1e-7)


def test_calibrated_search_goes_back_to_other_samples(pictures: list[Image.Image]) -> None:
    """It has no learning rate, and would meet the same loss again with the same samples."""
    entry = Catalog.load().get("emoji")
    bundle = load_bundle(entry, device="cpu")
    settings = resolve_settings(entry, bundle.family, "default", {"n": 2, "fixed_rows": 2})
    first = Personalization.begin(bundle, Subject("<x>", "dog"), pictures, settings)
    repeated = Personalization(bundle, first.subject, first.references, settings, first.state())
    recoveries, engine = _recorded(first), _FaultyEngine(bundle)
    engine.faults = 4
    assert engine.step([first]) == [None]
    assert recoveries[3].message.endswith("continuing from step 0 with other samples")
    assert engine.step([repeated]) == [None]
    assert first.step == repeated.step == 1
    assert not torch.equal(first.search.theta, repeated.search.theta)


def test_then_the_search_fails(engine: _FaultyEngine, learned: Personalization) -> None:
    """Three redraws, one return, three redraws: the eighth fault is final, and θ stays finite."""
    recoveries = _recorded(learned)
    engine.faults = 8
    (error,) = engine.step([learned])
    assert isinstance(error, LossNotFiniteError)
    assert [one.kind for one in recoveries] == ["redrawn"] * 3 + ["restored"] + ["redrawn"] * 3
    assert learned.search.theta.isfinite().all()


def test_a_resumed_search_keeps_the_half_rate(engine: _FaultyEngine, learned: Personalization) -> None:
    """The halved rate is in the checkpoint, so a resumed search gives the same bits and does not halve it again."""
    engine.faults = 4
    engine.step([learned])
    resumed = Personalization(learned.bundle, learned.subject, learned.references, SETTINGS, learned.state())
    for personalization in (learned, resumed):
        engine.step([personalization])
    assert torch.equal(learned.search.theta, resumed.search.theta)
    engine.faults = 4
    (error,) = engine.step([resumed])
    assert isinstance(error, LossNotFiniteError)


def test_a_redrawn_search_resumes_bit_for_bit(engine: _FaultyEngine, learned: Personalization) -> None:
    """A checkpoint after a redrawn step continues with the draws of the uninterrupted search."""
    engine.faults = 2
    engine.step([learned])
    resumed = Personalization(learned.bundle, learned.subject, learned.references, SETTINGS, learned.state())
    for personalization in (learned, resumed):
        engine.step([personalization])
    assert torch.equal(learned.search.theta, resumed.search.theta)


def test_a_bad_validation_loss_goes_back(
    engine: _FaultyEngine, learned: Personalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation set cannot be drawn again, so the search goes back at once; the second time is an error."""
    engine.step([learned])
    recoveries = _recorded(learned)
    monkeypatch.setattr(learned.bundle.denoiser, "predict", lambda rows: rows.noisy * float("nan"))
    assert learned.record_validation_loss() == learned.fixed_loss_start
    assert (learned.step, [one.kind for one in recoveries]) == (0, ["restored"])
    with pytest.raises(LossNotFiniteError):
        learned.record_validation_loss()


def test_a_complete_search_does_not_go_back(
    engine: _FaultyEngine, learned: Personalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its concept would be that of an earlier step."""
    while not learned.done:
        engine.step([learned])
    monkeypatch.setattr(learned.bundle.denoiser, "predict", lambda rows: rows.noisy * float("nan"))
    with pytest.raises(LossNotFiniteError):
        learned.record_validation_loss()
    assert learned.done


def test_a_checkpoint_does_not_resume_at_another_precision(learned: Personalization) -> None:
    """INT8 and NF4 weights have other losses. A checkpoint of an older version has no mark and is accepted."""
    state = learned.state()
    other = torch.tensor(list(b"int8"), dtype=torch.uint8)
    begin = (learned.bundle, learned.subject, learned.references, SETTINGS)
    with pytest.raises(InvalidCheckpointError, match="in int8; expected one on this base model in fp32"):
        Personalization(*begin, state | {"precision": other})
    del state["precision"]
    assert Personalization(*begin, state).step == 0
