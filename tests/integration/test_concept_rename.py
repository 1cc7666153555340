"""Renaming of concepts over HTTP, on both databases, and on a worker with a stub engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load

from tests.integration.support.concepts import tiny_concept
from tests.integration.support.photos import create
from tests.integration.support.workers import STUB, wait_for_job, worker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

PROMPT = {"prompt": "a <my-dog> on a beach"}


@pytest.fixture
def settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings with the stub engine."""
    settings.data_dir.mkdir()
    return settings.model_copy(update={"engine": STUB, "tick_s": 0.3})


@pytest.fixture
def url(client: TestClient, catalog: Path) -> str:
    """Path of an imported concept `<my-dog>`."""
    return _import(client, catalog)["Location"]


def _import(client: TestClient, catalog: Path, **fields: str) -> Any:
    created = client.post(
        "/v1/concepts", files={"file": ("x.safetensors", tiny_concept(catalog))}, data=fields
    )
    assert created.status_code == 201
    return created.headers


def test_a_renamed_concept_has_the_new_token_everywhere(client: TestClient, url: str) -> None:
    """The concept, prompts and exports use the new token; the old one is free again. A retry changes nothing."""
    before = client.get(url).json()
    for _ in range(2):
        renamed = client.patch(url, json={"token": "<rex>"})
        assert (renamed.status_code, renamed.json()) == (200, {**before, "token": "<rex>"})
    assert client.get(url).json() == renamed.json()
    exported = client.get(f"{url}/embedding")
    assert "rex.safetensors" in exported.headers["Content-Disposition"]
    assert list(load(exported.content)) == ["<rex>"]
    assert client.post("/v1/generations", json={"prompt": "a <rex>"}).status_code == 202
    assert client.post("/v1/generations", json=PROMPT).json()["code"] == "unknown_token"


def test_invalid_tokens_change_nothing(client: TestClient, catalog: Path, url: str) -> None:
    """A malformed token, a taken one, and that of an unfinished personalization are refused with the field."""
    _import(client, catalog, token="<rex>")
    assert create(client, token="<fido>").status_code == 202
    for token, status, code in (
        ("<Rex>", 422, "invalid_token"),
        ("rex", 422, "invalid_token"),
        ("<rex>", 409, "token_taken"),
        ("<fido>", 409, "token_taken"),
    ):
        refused = client.patch(url, json={"token": token})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.json()["errors"][0]["field"] == "token"
        assert "replace" not in refused.json()["detail"]
    assert client.get(url).json()["token"] == "<my-dog>"
    assert client.patch(f"{url}x", json={"token": "<a>"}).status_code == 404


def test_a_queued_generation_keeps_the_token_of_its_prompt(
    client: TestClient, settings: ServiceSettings, url: str
) -> None:
    """A concept that is renamed while a generation waits is drawn under the token that the prompt contains."""
    queued = client.post("/v1/generations", json=PROMPT).json()["id"]
    assert client.patch(url, json={"token": "<rex>"}).status_code == 200
    with worker(settings):
        drawn = wait_for_job(settings, queued, Status.SUCCEEDED)
    assert drawn.result is not None
    assert drawn.result["concepts"] == {"<my-dog>": url.rpartition("/")[2]}
