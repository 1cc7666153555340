"""Searches, measurements and generations of many users share forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.generation import ImageBatch, generate
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import BatchedJob, DecodingJob, Engine
from zoodip_core.errors import OutOfMemoryError
from zoodip_core.fair_shares import DECODE_ROWS, FairShares
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

QUICK = PersonalizationSettings(steps=50, n=1, fixed_rows=5, t_low=100, t_high=900)


@pytest.fixture
def bundle(bundles: dict[str, Bundle]) -> Bundle:
    """Return a narrow SD1."""
    return bundles["sd1"]


@pytest.fixture
def forwards(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each U-Net pass appends its rows."""
    sizes: list[int] = []
    predict = bundle.denoiser.predict
    monkeypatch.setattr(bundle.denoiser, "predict", lambda rows: sizes.append(len(rows)) or predict(rows))
    return sizes


def _search(bundle: Bundle, pictures: list[Image.Image], number: int = 0, **values: Any) -> Personalization:
    settings = QUICK.model_copy(update={"seed": number, **values})
    return Personalization.begin(bundle, Subject(f"<s{number}>", "dog"), pictures[:1], settings)


def _drawings(bundle: Bundle, count: int) -> list[ImageBatch]:
    """Return generations with different concepts, prompts, seeds, steps, guidance and schedulers."""
    schedulers = ("ddim", "euler", "dpm++")
    generator = torch.Generator().manual_seed(0)
    return [
        ImageBatch(
            bundle,
            [
                GenerationSettings(
                    prompt=f"a <c{k}> in the {('snow', 'grass')[k % 2]}",
                    seed=k,
                    steps=2 + k % 3,
                    guidance_scale=float(k % 4),
                    scheduler=schedulers[k % 3],
                )
            ],
            {f"<c{k}>": [torch.randn(1, width, generator=generator) for width in bundle.prompts.widths]},
        )
        for k in range(count)
    ]


def test_different_generations_share_one_forward(bundle: Bundle, forwards: list[int]) -> None:
    """Each gets, up to rounding, the image that it draws alone; one step of all is one forward pass."""
    alone, together = _drawings(bundle, 6), _drawings(bundle, 6)
    for batch in alone:
        while not batch.done:
            batch.advance()
    forwards.clear()
    engine = Engine(bundle)
    while unfinished := [batch for batch in together if not batch.done]:
        before = len(forwards)
        assert engine.step(unfinished) == [None] * len(unfinished)
        assert len(forwards) <= before + 1
    assert forwards[0] == 6 + sum(k % 4 > 1 for k in range(6))
    for one, other in zip(alone, together, strict=True):
        difference = np.asarray(one.images[0].image, int) - np.asarray(other.images[0].image, int)
        assert np.abs(difference).max() <= 1


@pytest.mark.slow
def test_one_step_in_company_equals_one_alone(
    family: str, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """Searches, a measurement and generations of two sizes get the predictions that each gets alone."""
    bundle = bundles[family]
    search = _search(bundle, pictures)
    large = ImageBatch(bundle, [GenerationSettings(prompt="a dog", steps=2, height=128)])
    jobs: list[BatchedJob] = [search, search.begin_measurement(), *_drawings(bundle, 2), large]
    engine = Engine(bundle)
    requests = [job.build_request() for job in jobs]
    for request, together in zip(requests, engine.evaluate(requests), strict=True):
        (alone,) = engine.evaluate([request])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        assert len(together) == len(request)


def test_defect_of_one_job_is_its_own(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that fails while it requests rows, takes predictions or decodes does not stop the others."""

    def fail(*_: object) -> None:
        raise IndexError("out of bounds")

    usual, *broken = _drawings(bundle, 4)
    for batch, name in zip(broken, ("build_request", "apply_predictions", "decode"), strict=True):
        monkeypatch.setattr(batch, name, fail)
    engine, found = Engine(bundle), set[int]()
    while not usual.done or not broken[2].decodes_next:
        running = [batch for batch in (usual, *broken) if not batch.done]
        errors = dict(zip(running, engine.step(running), strict=True))
        assert errors.get(usual) is None
        found |= {broken.index(batch) for batch, error in errors.items() if isinstance(error, IndexError)}
    assert isinstance(engine.step([broken[2]])[0], IndexError)
    assert {0, 1} <= found
    assert usual.images


def test_step_without_memory_can_be_repeated(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out while rows are requested or a step is completed is a typed error; nothing has changed."""
    batch, alone = (ImageBatch(bundle, [GenerationSettings(prompt="a dog", steps=2)]) for _ in range(2))
    engine, scheduler = Engine(bundle), batch._sampler._scheduler
    for name in ("scale_model_input", "step"):
        usual, failed = getattr(scheduler, name), list[bool]()

        def once(*given: Any, usual: Any = usual, failed: list[bool] = failed, **named: Any) -> Any:
            if not failed:
                failed.append(True)
                raise torch.OutOfMemoryError
            return usual(*given, **named)

        monkeypatch.setattr(scheduler, name, once)
        assert isinstance(engine.step([batch])[0], OutOfMemoryError)
    while not batch.done:
        engine.advance([batch])
    while not alone.done:
        engine.advance([alone])
    assert batch.images[0].image.tobytes() == alone.images[0].image.tobytes()


@pytest.mark.slow
def test_fifty_generations_and_eight_searches(
    bundle: Bundle, pictures: list[Image.Image], forwards: list[int]
) -> None:
    """Each search steps in every iteration. Generations start soon, and the slow ones end with the others."""
    searches = [_search(bundle, pictures, number) for number in range(8)]
    waiting = _drawings(bundle, 50)
    shares, engine = FairShares(0.5), Engine(bundle)
    work = 2 * len(searches) * waiting[0].unit_cells * bundle.denoiser.parameters
    first, last, rows_of_drawings, iteration = dict[ImageBatch, int](), dict[ImageBatch, int](), 0, 0
    forwards.clear()
    while unfinished := [batch for batch in waiting if not batch.done]:
        turns = shares.allot(work, unfinished)
        for batch, units in turns:
            batch.most_rows = units
            first.setdefault(batch, iteration)
            last[batch] = iteration
            rows_of_drawings += 0 if batch.decodes_next else units
        jobs: list[BatchedJob] = [*searches, *(batch for batch, _ in turns)]
        assert engine.step(jobs) == [None] * len(jobs)
        iteration += 1
        assert [search.step for search in searches] == [iteration] * 8
    assert max(first.values()) < 100 / 16 + 1  # rows to start all, and rows of an iteration
    cells_of_drawings = rows_of_drawings + DECODE_ROWS * len(waiting)
    assert max(last.values()) < cells_of_drawings / 16 + 2  # the share of generations is never idle
    assert len({*last.values()}) > 1
    assert sum(forwards) == 16 * iteration + rows_of_drawings
    assert rows_of_drawings / iteration <= 16
    assert len(forwards) == iteration


def test_a_repeated_prompt_runs_no_text_encoder(bundle: Bundle) -> None:
    """The states of a prompt are encoded once, for any steps and seeds; new vectors of a token count as new."""
    runs: list[int] = []
    (encoder,) = bundle.prompts.encoders
    hook = encoder.body.final_layer_norm.register_forward_hook(lambda *_: runs.append(1))
    concepts = {"<new>": [torch.full((1, bundle.prompts.widths[0]), 0.123)]}
    settings = GenerationSettings(prompt="one <new> crab", negative_prompt="two crab", steps=2)
    try:
        first = generate(bundle, settings, concepts)
        assert len(runs) == 2
        again = generate(bundle, settings, concepts)
        generate(bundle, settings.model_copy(update={"seed": 5, "steps": 3}), concepts)
        assert len(runs) == 2
        generate(bundle, settings, {"<new>": [torch.full((1, bundle.prompts.widths[0]), 0.5)]})
        assert len(runs) == 3
    finally:
        hook.remove()
    assert first[0].image.tobytes() == again[0].image.tobytes()


def test_a_shape_that_does_not_fit_fails_alone(
    bundle: Bundle, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture whose single row does not fit fails with `out_of_memory`; searches and other pictures advance."""
    large = ImageBatch(bundle, [GenerationSettings(prompt="a dog", steps=2, height=128)])
    small = ImageBatch(bundle, [GenerationSettings(prompt="a dog", steps=2, scheduler="ddim")])
    search = _search(bundle, pictures)
    predict = bundle.denoiser.predict

    def refuse_large(rows: Rows) -> torch.Tensor:
        if rows.noisy.shape[2] > 8:
            raise OutOfMemoryError
        return predict(rows)

    monkeypatch.setattr(bundle.denoiser, "predict", refuse_large)
    errors = Engine(bundle).step([large, search, small])
    assert [type(error) for error in errors] == [OutOfMemoryError, type(None), type(None)]
    assert (large.step, search.step, small.step) == (0, 1, 1)


def test_a_measurement_in_company_is_that_of_the_search(bundle: Bundle, pictures: list[Image.Image]) -> None:
    """A search that was begun without a measurement gets the loss of one that measured alone, up to rounding."""
    measured = _search(bundle, pictures)
    begun = Personalization.begin(bundle, measured.subject, pictures[:1], QUICK, measured=False)
    assert begun.fixed_losses == []
    measurement, engine, company = begun.begin_measurement(), Engine(bundle), _search(bundle, pictures, 1)
    while not measurement.done:
        engine.step([measurement, company])
    assert begun.record_measurement(measurement) == pytest.approx(measured.fixed_loss_start, rel=1e-4)
    assert isinstance(measurement, BatchedJob)
    assert not isinstance(measurement, DecodingJob)
