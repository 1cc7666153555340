"""Faults that a search survives: shared memory that runs out, and losses that are not finite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.support.jobs import queue
from tests.integration.support.photos import photo
from tests.integration.support.processes import wait_until
from worker.diffusion_engine import DiffusionEngine
from worker.engine_loop import EngineLoop
from worker.leased_writes import LeasedWriter
from worker.stats import Stats
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import events, store
from zoodip_core.service.jobs.records import Event, Job
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, reference_name
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.slow

ROOM = 5
"""Rows that fit into the text encoder, which takes all rows of a step at once."""


class _HookedEngine(DiffusionEngine):
    """Production engine that changes each base model after loading it."""

    def __init__(self, settings: ServiceSettings, hook: Callable[[Bundle], None]) -> None:
        super().__init__(settings)
        self._hook = hook
        self._hooked: set[int] = set()

    def _bundle(self, name: str) -> Bundle:
        bundle = super()._bundle(name)
        if id(bundle) not in self._hooked:
            self._hooked.add(id(bundle))
            self._hook(bundle)
        return bundle


def _limit_memory(bundle: Bundle) -> None:
    """Let one row fit into the U-Net and `ROOM` rows into the text encoder."""

    def refuse_above(most: int) -> Callable[..., None]:
        def check(_: Any, inputs: tuple[Any, ...]) -> None:
            if len(inputs[0]) > most:
                raise torch.OutOfMemoryError

        return check

    bundle.denoiser.unet.register_forward_pre_hook(refuse_above(1))
    (encoder,) = bundle.prompts.encoders
    encoder.body.final_layer_norm.register_forward_pre_hook(refuse_above(ROOM))


@contextmanager
def _running(
    database: Database, settings: ServiceSettings, hook: Callable[[Bundle], None]
) -> Iterator[EngineLoop]:
    """Run an engine loop with real models in this process."""
    engine = _HookedEngine(settings, hook)
    objects = ObjectStore(settings.object_store)
    loop = EngineLoop(engine, LeasedWriter(database, "w1", 60.0), objects, settings, Stats())
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.drain()
        thread.join()


def _personalization(database: Database, settings: ServiceSettings, number: int, **changes: Any) -> str:
    """Queue a search with one reference image and two rows in each step; return its id."""
    search = {"steps": 4, "n": 1, "fixed_rows": 1, "checkpoint_every": 100, **changes}
    request = {
        "initializer": "dog",
        "kind": "object",
        "captions": None,
        "settings": search,
        "replace": False,
        "images": 1,
    }
    job = queue(
        database,
        now=float(number),
        base_model="tiny",
        token=f"<t{number}>",
        request=request,
        total_steps=search["steps"],
    )
    ObjectStore(settings.object_store).put(reference_name(job.id, 0), photo((64, 64)))
    return job.id


def _ended(database: Database, ids: list[str]) -> list[Job]:
    """Wait until all jobs have ended, and return them."""

    def found() -> list[Job]:
        with database.read() as connection:
            return [store.find(connection, job_id) for job_id in ids]

    wait_until(lambda: all(job.ended for job in found()), "the end of all jobs", 60)
    return found()


def _warnings(database: Database, job_id: str) -> list[Event]:
    with database.read() as connection:
        return [event for event in events.after(connection, job_id) if event.type == "warning"]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of SQLite only: these tests are about memory."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


@pytest.fixture
def settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings without previews during a search."""
    return settings.model_copy(update={"preview_every": 10_000, "device": "cpu", "tick_s": 0.05})


def test_the_youngest_waits_when_a_step_does_not_fit(database: Database, settings: ServiceSettings) -> None:
    """Two searches of two rows fit, three do not: the third one waits for the end of another, and all succeed."""
    ids = [_personalization(database, settings, number) for number in range(3)]
    with _running(database, settings, _limit_memory):
        jobs = _ended(database, ids)
    assert [job.status for job in jobs] == [Status.SUCCEEDED] * 3
    assert [job.attempts for job in jobs] == [1] * 3
    warnings = [_warnings(database, job.id) for job in jobs]
    assert [len(found) for found in warnings] == [0, 0, 1]
    assert [job.fence for job in jobs] == [1, 1, 2]  # claims: it is not claimed into the same full batch
    assert warnings[2][0].data["code"] == "out_of_memory"
    assert "do not fit into memory together; this one waits" in warnings[2][0].data["message"]


def test_a_search_that_does_not_fit_alone_fails(database: Database, settings: ServiceSettings) -> None:
    """It waits until it is alone, and then fails with `out_of_memory`; the other one succeeds."""
    small = _personalization(database, settings, 0)
    large = _personalization(database, settings, 1, n=ROOM)
    with _running(database, settings, _limit_memory):
        jobs = _ended(database, [small, large])
    assert [job.status for job in jobs] == [Status.SUCCEEDED, Status.FAILED]
    assert [job.fence for job in jobs] == [1, 2]
    assert jobs[1].error is not None
    assert (jobs[1].error["code"], jobs[1].error["retryable"]) == ("out_of_memory", True)


def test_a_recovery_is_an_event(database: Database, settings: ServiceSettings) -> None:
    """The client sees that a step was drawn again."""
    calls = iter(range(1000))

    def spoil_second_step(bundle: Bundle) -> None:
        def spoil(_: Any, __: Any, output: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
            return (
                (output[0] * torch.nan,) if next(calls) == 2 else None
            )  # after validation and the first step

        bundle.denoiser.unet.register_forward_hook(spoil)

    job_id = _personalization(database, settings, 0)
    with _running(database, settings, spoil_second_step):
        (job,) = _ended(database, [job_id])
    assert job.status == Status.SUCCEEDED
    (warning,) = _warnings(database, job_id)
    assert warning.data["code"] == "loss_not_finite"
    assert "the loss of step 2 was not finite; drawing another sample" in warning.data["message"]
