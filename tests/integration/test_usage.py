"""`GET /v1/usage`, `/metrics` and quotas, with jobs of a worker in this process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.jobs import reap
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create
from tests.integration.support.stub_engine import StubEngine
from worker.generation_job import GenerationJob
from worker.iteration import Iterations
from worker.job_context import JobContext
from worker.leased_writes import LeasedWriter
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from worker.storage_retries import RetryingObjectStore
from zoodip_core.service.database import Database
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.quotas import Quotas
from zoodip_core.service.settings import ServiceSettings

DRAWING: dict[str, Any] = {"url": "/v1/generations", "json": {"prompt": "a dog", "n": 3, "steps": 5}}
EVALUATIONS = 30  # of that drawing with guidance


class _Worker:
    """Worker without threads, whose jobs a test advances and drops."""

    def __init__(self, database: Database, settings: ServiceSettings) -> None:
        self.writer = LeasedWriter(database, "w", 60.0)
        objects = RetryingObjectStore(ObjectStore(settings.object_store), 1.0)
        self.context = JobContext(self.writer, objects, settings, Stats(), lambda _: None)
        self.engine = StubEngine(settings)
        self.iterations = Iterations(self.engine, self.context.stats, 0.5)

    def draw(self) -> None:
        job = self.writer.claim_next(JobKind.GENERATION)
        assert job is not None
        drawing = GenerationJob(job, self.engine, self.context)
        while not drawing.finished:
            assert [error for _, error in self.iterations.run([], [drawing])] == [None]
            drawing.advance()

    def learn(self, until: int | None = None) -> None:
        """Run a personalization up to a step, or to its end."""
        job = self.writer.claim_next(JobKind.PERSONALIZATION)
        assert job is not None
        learning = PersonalizationJob(job, self.engine, self.context)
        learning.advance()
        while not learning.finished and learning.search.step != until:
            assert [error for _, error in self.iterations.run([learning], [])] == [None]
            learning.advance()
        learning.close()


@pytest.fixture
def running(database: Database, settings: ServiceSettings) -> _Worker:
    """Return a worker on the database and the objects of the API."""
    return _Worker(database, settings)


def test_each_job_counts_for_its_key_and_its_owner_only(
    client: TestClient, settings: ServiceSettings, running: _Worker
) -> None:
    """Two keys of an owner see the usage of both; another owner sees none; `/metrics` has the same figures."""
    first, second, bob = (make_key(settings, owner=owner) for owner in ("alice", "alice", "bob"))
    for headers in (first, second, second):
        assert client.post(**DRAWING, headers=headers).status_code == 202
        running.draw()
    report = client.get("/v1/usage", headers=first).json()
    used = [(day["evaluations"], day["images"]) for day in report["data"]]
    assert used == [(1, 3), (2, 6)]  # the stub takes one evaluation for a drawing
    assert len({day["key"] for day in report["data"]}) == 2
    assert {day["day"] for day in report["data"]} == {f"{datetime.now(UTC):%Y-%m-%d}"}
    objects = ObjectStore(settings.object_store).sizes("")
    assert report["stored_bytes"] == sum(objects.values()) > 0
    assert sum(day["stored_bytes"] for day in report["data"]) == report["stored_bytes"]
    hidden = client.get("/v1/usage", headers=bob).json()
    assert (hidden["data"], hidden["stored_bytes"]) == ([], 0)
    metrics = client.get("/metrics", headers=make_key(settings, scopes=("admin",))).text
    assert 'zoodip_usage_evaluations_total{owner="alice"} 3.0' in metrics
    assert 'zoodip_usage_images_total{owner="alice"} 9.0' in metrics
    assert f'zoodip_usage_stored_bytes{{owner="alice"}} {float(sum(objects.values()))}' in metrics
    assert 'zoodip_usage_seconds_total{owner="alice"}' in metrics


def test_a_repeated_attempt_counts_what_it_recorded(
    client: TestClient, database: Database, settings: ServiceSettings, running: _Worker
) -> None:
    """A worker dies at step 14: the 4 unrecorded steps are lost, and the next one counts from step 10."""
    created = create(client)
    running.learn(until=14)
    reap(database, time.time())
    running.learn()
    job = client.get(created.headers["Location"]).json()
    until_10, from_10 = 20 + 2 + 2, 40 + 4 + 2  # steps, measurements and a preview
    (day,) = client.get("/v1/usage").json()["data"]
    assert (day["key"], day["evaluations"], day["images"]) == (None, until_10 + from_10, 0)
    assert job["result"]["usage"]["evaluations"] == until_10 + from_10
    assert job["result"]["usage"]["seconds"] == day["seconds"]
    stored = client.get("/v1/usage").json()["stored_bytes"]
    assert stored == sum(ObjectStore(settings.object_store).sizes("").values())
    assert client.delete(created.headers["Location"]).status_code == 204
    concept = f"/v1/concepts/{job['result']['concept_id']}"
    assert 0 < client.get("/v1/usage").json()["stored_bytes"] < stored
    assert client.delete(concept).status_code == 204
    report = client.get("/v1/usage").json()
    assert (report["stored_bytes"], report["data"]) == (0, [{**day, "stored_bytes": 0}])


def test_a_quota_refuses_before_anything_is_created(
    client: TestClient, settings: ServiceSettings, running: _Worker
) -> None:
    """Used and reserved evaluations count; the error says what is left and when the quota resets."""
    key = make_key(settings, owner="alice", quotas=Quotas(max_evaluations_per_day=2 * EVALUATIONS))
    client.post(**DRAWING, headers=key)
    running.draw()  # takes 1 of the 30 that were reserved
    assert client.post(**DRAWING, headers=key).status_code == 202
    refused = client.post(**DRAWING, headers=key)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert (
        "evaluations: got 30 for this job; expected at most 29, the rest of the quota of 60 a day (1 used, 30 "
        "reserved for unfinished jobs); the quota resets at 2" in refused.json()["detail"]
    )
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert len(client.get("/v1/generations", headers=key).json()["data"]) == 2
    learning = create(client, headers=key, url="/v1/personalizations?validate_only=true")
    assert learning.status_code == 429
    assert create(client, headers=key).status_code == 429
    assert not any("references" in name for name in ObjectStore(settings.object_store).names("jobs/"))
    assert client.post(**DRAWING, headers=make_key(settings, owner="bob")).status_code == 202


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_images_per_day": 5}, "images: got 3 for this job; expected at most 2"),
        ({"max_seconds_per_day": 1e-9}, "used today; expected less than the quota of 1e-09 a day"),
        ({"max_stored_mb": 2e-4}, "expected at most 200 in total; delete generations"),
    ],
)
def test_the_settings_limit_owners_without_their_own_quota(
    settings: ServiceSettings, running: _Worker, limits: dict[str, float], message: str
) -> None:
    """The second drawing is refused, except with a key whose own quotas are higher."""
    app = create_app(settings.model_copy(update=limits))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        assert client.post(**DRAWING).status_code == 202
        running.draw()
        refused = client.post(**DRAWING)
        assert (refused.status_code, message in refused.json()["detail"]) == (429, True), refused.text
        higher: dict[str, Any] = dict.fromkeys(limits, 1000)
        key = make_key(settings, owner="local", quotas=Quotas(**higher))
        assert client.post(**DRAWING, headers=key).status_code == 202


def test_bad_ranges_of_days_are_refused(client: TestClient) -> None:
    """A range must be 1 to 366 existing days, oldest first. The error names the parameter."""
    for query, field in (
        ("first_day=yesterday", "first_day"),
        ("first_day=2026-03-02&last_day=2026-03-01", "first_day"),
        ("first_day=2020-01-01&last_day=2026-01-01", "first_day"),
        ("last_day=0001-01-01", "last_day"),
        ("last_day=2026-02-30", "last_day"),
    ):
        response = client.get(f"/v1/usage?{query}")
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field), response.text
    one_day = client.get("/v1/usage?first_day=2026-03-01&last_day=2026-03-01").json()
    assert (one_day["first_day"], one_day["last_day"], one_day["data"]) == ("2026-03-01", "2026-03-01", [])
