"""What logs hold: ids that join lines of one request and one job; no photos' names, no prompts, no keys."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from tests.integration.support.apis import api
from tests.integration.support.keys import make_key
from tests.integration.support.photos import REQUEST, photo
from tests.integration.support.workers import STUB, wait_for_job, worker
from zoodip_core.service.database import Database
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

PRIVATE = ("grandmother", "a-secret-garden", "mother-in-law")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The embedded default."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _lines(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_logs_name_requests_and_jobs_and_nothing_private(settings: ServiceSettings, tmp_path: Path) -> None:
    """An upload, a refused one and a generation: every line has its id, and no line anything of the content."""
    settings.data_dir.mkdir()
    loud = settings.model_copy(update={"engine": STUB, "tick_s": 0.2, "log_level": "INFO"})
    database = Database(loud.database)
    database.migrate()
    database.close()
    key = make_key(loud)
    with api(loud, tmp_path / "api.log") as url, worker(loud) as running:

        def post(content: bytes) -> httpx2.Response:
            request = {**REQUEST, "settings": {"steps": 3}, "captions": ["a <my-dog> with a mother-in-law"]}
            files = {"images": ("grandmother.png", content)}
            return httpx2.post(
                f"{url}/v1/personalizations",
                files=files,
                data={"request": json.dumps(request)},
                headers={**key, "X-Request-Id": "my-request"},
            )

        assert post(b"no image").status_code == 422
        job_id = post(photo()).json()["id"]
        wait_for_job(loud, job_id, Status.SUCCEEDED)
        body = {"prompt": "a <my-dog> in a-secret-garden"}
        drawn = httpx2.post(
            f"{url}/v1/generations", json=body, headers={**key, "Prefer": "wait=30"}, timeout=40
        )
        assert drawn.json()["status"] == "succeeded"
    texts = [(tmp_path / "api.log").read_text(), running.log.read_text()]
    secret = key["Authorization"].removeprefix("Bearer ")
    assert not [word for word in (*PRIVATE, secret) for text in texts if word in text]
    requests = [line for line in _lines(tmp_path / "api.log") if line["event"] == "request"]
    assert len(requests) == 3
    assert [line["request_id"] for line in requests[:2]] == ["my-request"] * 2
    assert [line["status"] for line in requests] == [422, 202, 200]
    begun = [line for line in _lines(running.log) if str(line["event"]).startswith("personalization_")]
    assert [line["job_id"] for line in begun] == [job_id] * 2
