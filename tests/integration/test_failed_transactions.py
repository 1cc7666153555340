"""Requests whose transaction fails create nothing and delete nothing, objects included."""

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

_FAILURE = OperationalError("COMMIT", {}, ConnectionError())


class _FailsOnce(Database):
    """Database whose first write fails: at `begin`, at `commit`, or after it, when only the `reply` is lost."""

    def __init__(self, url: str, when: str) -> None:
        super().__init__(url)
        self._when = when

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a transaction; the first one fails."""
        when, self._when = self._when, ""
        if when == "begin":
            raise _FAILURE
        with super().write() as connection:
            yield connection
            if when == "commit":
                raise _FAILURE
        if when:
            raise _FAILURE


@contextmanager
def _failing(client: TestClient, settings: ServiceSettings, when: str) -> Iterator[None]:
    """Let the next write of the API fail."""
    service = client.app.state.service  # type: ignore[attr-defined]
    working, service.database = service.database, _FailsOnce(settings.database, when)
    try:
        yield
    finally:
        service.database.close()
        service.database = working


def _import(client: TestClient, content: bytes, **fields: str) -> int:
    files = {"file": ("x.safetensors", content)}
    return client.post("/v1/concepts", files=files, data={"base_model": "tiny", **fields}).status_code


@pytest.mark.parametrize("when", ["begin", "commit"])
def test_failed_creation_leaves_no_images(client: TestClient, settings: ServiceSettings, when: str) -> None:
    """The response is 503 and no row or object remains; a retry succeeds."""
    with _failing(client, settings, when):
        failed = create(client)
    assert (failed.status_code, failed.json()["code"]) == (503, "database_unavailable")
    assert ObjectStore(settings.object_store).names("") == []
    assert client.get("/v1/personalizations").json()["data"] == []
    assert create(client).status_code == 202


def test_creation_succeeds_if_the_commit_reply_is_lost(client: TestClient, settings: ServiceSettings) -> None:
    """The job exists, so the response is 202 and its reference image stays."""
    with _failing(client, settings, "reply"):
        created = create(client)
    assert created.status_code == 202
    assert client.get(created.headers["Location"]).json()["status"] == "queued"
    assert len(ObjectStore(settings.object_store).names(f"jobs/{created.json()['id']}")) == 1


@pytest.mark.parametrize("when", ["begin", "commit"])
def test_failed_replacement_keeps_the_old_concept(
    client: TestClient, settings: ServiceSettings, catalog: Path, when: str
) -> None:
    """The old embedding can still be downloaded, and no object of the new concept remains."""
    content = tiny_concept(catalog)
    assert _import(client, content) == 201
    (old,) = client.get("/v1/concepts").json()["data"]
    with _failing(client, settings, when):
        assert _import(client, content, replace="true") == 503
    assert [concept["id"] for concept in client.get("/v1/concepts").json()["data"]] == [old["id"]]
    assert client.get(f"/v1/concepts/{old['id']}/embedding").status_code == 200
    assert ObjectStore(settings.object_store).names("") == [f"concepts/{old['id']}.safetensors"]


def test_key_works_while_writes_fail(database: Database, settings: ServiceSettings) -> None:
    """A failed record of the last use does not reject the key, and the cache holds no secret."""
    header = make_key(settings)
    secret = header["Authorization"].removeprefix("Bearer ")
    failing = _FailsOnce(settings.database, "begin")

    async def use() -> None:
        key_cache = KeyCache(failing)
        key = await key_cache.find(secret)
        assert key is not None
        key_cache.record_use(key)
        assert key_cache.is_use_recorded(key)
        assert await key_cache.find(secret) == key
        assert not any(secret in str(vars(held)) for held in (key_cache, *key_cache._entries.values()))
        await key_cache.close()

    asyncio.run(use())
    failing.close()


def test_database_error_hides_the_values(database: Database) -> None:
    """The message of a database error, which can reach logs, does not contain the written values."""
    secret = api_keys.new_secret()
    with database.write() as connection:
        api_keys.create(connection, secret, 0.0, name="private-name")
    with database.write() as connection, pytest.raises(IntegrityError) as error:
        api_keys.create(connection, secret, 0.0, name="private-name")
    assert "private-name" not in str(error.value)
    assert "whsec_" not in str(error.value)
