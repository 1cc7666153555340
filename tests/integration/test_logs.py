"""Logs contain request and job ids, and no file names, prompts or keys."""

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
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _lines(log: Path) -> list[dict[str, object]]:
    """Return the lines of a log. Each line must be JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_logs_have_ids_and_no_private_content(settings: ServiceSettings, tmp_path: Path) -> None:
    """Each log line of two uploads and a generation has its id, and none has private content."""
    settings.data_dir.mkdir()
    verbose = settings.model_copy(update={"engine": STUB, "tick_s": 0.2, "log_level": "INFO"})
    database = Database(verbose.database)
    database.migrate()
    database.close()
    key = make_key(verbose)
    with api(verbose, tmp_path / "api.log") as url, worker(verbose) as running:

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
        wait_for_job(verbose, job_id, Status.SUCCEEDED)
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
    job_lines = [line for line in _lines(running.log) if str(line["event"]).startswith("personalization_")]
    assert [line["job_id"] for line in job_lines] == [job_id] * 2
