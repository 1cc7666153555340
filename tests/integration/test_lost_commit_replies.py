"""A worker that loses the reply to a commit keeps the written result, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from tests.integration.support.photos import create
from tests.integration.support.stub_engine import StubEngine, StubSearch
from tests.integration.support.workers import STUB
from worker.job_context import JobContext
from worker.leased_writes import LeasedWriter
from worker.personalization_job import PersonalizationJob
from worker.stats import Stats
from worker.storage_retries import RetryingObjectStore
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, store
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.object_store import ObjectStore, concept_name
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts


class _LosesReply(Database):
    """Database that commits the first transaction with a concept and then loses the connection."""

    lost = False

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a transaction."""
        with super().write() as connection:
            yield connection
            has_concept = connection.execute(select(concepts.c.id)).first() is not None
        if has_concept and not self.lost:
            self.lost = True
            raise OperationalError("COMMIT", {}, ConnectionError())


@pytest.fixture
def settings(tmp_path: Path, database_url: str, catalog: Path) -> ServiceSettings:
    """Settings with a stub engine."""
    (tmp_path / "data").mkdir()
    return ServiceSettings(
        data_dir=tmp_path / "data", database_url=database_url, base_models=catalog, engine=STUB
    )


def test_concept_survives_a_lost_commit_reply(client: TestClient, settings: ServiceSettings) -> None:
    """The job succeeds with one concept, whose embedding is stored."""
    create(client, settings={"steps": 3})
    database, objects = _LosesReply(settings.database), ObjectStore(settings.object_store)
    with database.write() as connection:
        job = leases.claim_next(connection, JobKind.PERSONALIZATION, "w", time.time(), 30.0)
    assert job is not None
    writer = LeasedWriter(database, "w", 30.0)
    context = JobContext(writer, RetryingObjectStore(objects, 1.0), settings, Stats(), lambda _: None)
    personalization = PersonalizationJob(job, StubEngine(settings), context)
    assert isinstance(personalization.search, StubSearch)
    personalization.advance()
    while not personalization.finished:
        personalization.search.advance()
        personalization.advance()
    assert database.lost
    with database.read() as connection:
        done = store.find(connection, job.id)
    assert done.status is Status.SUCCEEDED
    assert objects.names("concepts/") == [concept_name((done.result or {})["concept_id"])]
    database.close()
