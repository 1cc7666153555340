"""Requests whose transaction fails: nothing is made and nothing is lost, bytes included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

from api.key_cache import KeyCache
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.photos import create
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_FAULT = OperationalError("COMMIT", {}, ConnectionError())


class _Breaks(Database):
    """A database whose first write fails: before it begins, at its end, or with only the commit's answer lost."""

    def __init__(self, url: str, when: str) -> None:
        super().__init__(url)
        self._when = when

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, the first time one that breaks."""
        when, self._when = self._when, ""
        if when == "begin":
            raise _FAULT
        with super().write() as connection:
            yield connection
            if when == "commit":
                raise _FAULT
        if when:
            raise _FAULT


@contextmanager
def _broken(client: TestClient, settings: ServiceSettings, when: str) -> Iterator[None]:
    """The API on such a database for a while."""
    service = client.app.state.service  # type: ignore[attr-defined]
    whole, service.database = service.database, _Breaks(settings.database, when)
    try:
        yield
    finally:
        service.database.close()
        service.database = whole


def _import(client: TestClient, content: bytes, **fields: str) -> int:
    files = {"file": ("x.safetensors", content)}
    return client.post("/v1/concepts", files=files, data={"base_model": "tiny", **fields}).status_code


@pytest.mark.parametrize("when", ["begin", "commit"])
def test_an_upload_that_cannot_be_recorded_leaves_no_photo(
    client: TestClient, settings: ServiceSettings, when: str
) -> None:
    """503, no row, no object; and the same request succeeds later."""
    with _broken(client, settings, when):
        failed = create(client)
    assert (failed.status_code, failed.json()["code"]) == (503, "database_unavailable")
    assert ObjectStore(settings.object_store).names("") == []
    assert client.get("/v1/personalizations").json()["data"] == []
    assert create(client).status_code == 202


def test_an_upload_whose_commit_went_unheard_is_accepted(
    client: TestClient, settings: ServiceSettings
) -> None:
    """The job is there, so the client hears of it, and its photo stays."""
    with _broken(client, settings, "answer"):
        made = create(client)
    assert made.status_code == 202
    assert client.get(made.headers["Location"]).json()["status"] == "queued"
    assert len(ObjectStore(settings.object_store).names(f"jobs/{made.json()['id']}")) == 1


@pytest.mark.parametrize("when", ["begin", "commit"])
def test_a_replacement_that_cannot_be_recorded_leaves_the_old_concept(
    client: TestClient, settings: ServiceSettings, catalogue: Path, when: str
) -> None:
    """Its embedding can still be fetched, and nothing of the new one stays."""
    content = tiny_concept(catalogue)
    assert _import(client, content) == 201
    (old,) = client.get("/v1/concepts").json()["data"]
    with _broken(client, settings, when):
        assert _import(client, content, replace="true") == 503
    assert [one["id"] for one in client.get("/v1/concepts").json()["data"]] == [old["id"]]
    assert client.get(f"/v1/concepts/{old['id']}/embedding").status_code == 200
    assert ObjectStore(settings.object_store).names("") == [f"concepts/{old['id']}.safetensors"]


def test_a_key_reads_while_nothing_can_be_written(database: Database, settings: ServiceSettings) -> None:
    """That a use is not noted keeps nobody out; and no secret stays in memory."""
    header = make_key(settings)
    secret = header["Authorization"].removeprefix("Bearer ")
    broken = _Breaks(settings.database, "begin")

    async def use() -> None:
        key_cache = KeyCache(broken)
        key = await key_cache.find(secret)
        assert key is not None
        key_cache.record_use(key)
        assert key_cache.is_use_recorded(key)
        assert key_cache.get_cached(secret) == (key, True)
        assert secret not in str(vars(key_cache))
        await key_cache.close()

    asyncio.run(use())
    broken.close()


def test_a_failed_statement_does_not_tell_its_values(database: Database) -> None:
    """Errors go to logs and terminals; what was to be written does not."""
    secret = api_keys.new_secret()
    with database.write() as connection:
        api_keys.create(connection, secret, 0.0, name="private-name")
    with database.write() as connection, pytest.raises(IntegrityError) as error:
        api_keys.create(connection, secret, 0.0, name="private-name")
    assert "private-name" not in str(error.value)
    assert "whsec_" not in str(error.value)
