"""`validate_only` estimates the time of a personalization from its U-Net evaluations."""

from __future__ import annotations

import json
import time

import pytest
from fastapi.testclient import TestClient

from tests.integration.support.photos import REQUEST, create, parts, photo
from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database

ROWS_PER_S = 10.0


@pytest.mark.parametrize(("estimator", "rows_per_step"), [("rge", 5), ("spsa", 8)])
def test_the_estimate_counts_the_rows_of_the_estimator(
    client: TestClient, database: Database, estimator: str, rows_per_step: int
) -> None:
    """SPSA evaluates 2n rows a step, the one-sided estimator n + 1."""
    stats = {"rows_per_s": {"tiny": ROWS_PER_S}}
    with database.write() as connection:
        worker_registry.report(connection, "w", time.time(), draining=False, stats=stats)
    settings = {"steps": 100, "n": 4, "estimator": estimator}
    answer = client.post(
        "/v1/personalizations?validate_only=true",
        files=parts(photo()),
        data={"request": json.dumps({**REQUEST, "settings": settings})},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["evaluations"] == 100 * rows_per_step
    assert answer.json()["estimated_seconds"] == 100 * rows_per_step / ROWS_PER_S


def test_the_queue_position_counts_all_queued_personalizations(client: TestClient) -> None:
    """It is the position that the job would have if it were created now."""

    def position(token: str) -> int:
        body = create(client, url="/v1/personalizations?validate_only=true", token=token).json()
        return int(body["queue_position"])

    assert position("<first>") == 0
    assert create(client, token="<first>").json()["queue_position"] == 0
    assert position("<second>") == 1
