"""Replicate façade without a worker: translation of inputs, and bad inputs."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _create(client: TestClient, **given: Any) -> Any:
    return client.post("/replicate/v1/predictions", json={"version": "tiny", "input": given})


def test_inputs_are_translated_and_others_listed(client: TestClient) -> None:
    """Known inputs reach the generation, unknown ones the warnings and logs; a prediction can be canceled."""
    created = _create(
        client, prompt="a dog", num_outputs=2, seed=5, width=1024, lora_scale=1, scheduler="K_EULER"
    )
    assert (created.status_code, created.json()["status"]) == (201, "starting")
    job = created.json()
    assert (job["input"]["num_outputs"], job["input"]["seed"], job["input"]["scheduler"]) == (2, 5, None)
    fields = ["input.lora_scale", "input.scheduler", "size"]
    assert [warning["field"] for warning in job["warnings"]] == fields
    assert all(warning["message"] in job["logs"] for warning in job["warnings"])
    native = client.get(f"/v1/generations/{job['id']}").json()
    assert native["metadata"] == {"api": "replicate"}
    assert client.post(f"/replicate/v1/predictions/{job['id']}/cancel").json()["status"] == "canceled"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "input.prompt"),
        ({"prompt": ["a dog"]}, "input.prompt"),
        ({"prompt": "a dog", "width": 10**400}, "input.width"),
        ({"prompt": "a dog", "height": "64"}, "input.height"),
        ({"prompt": "a dog", "num_outputs": 65}, "input.num_outputs"),
        ({"prompt": "a dog", "scheduler": ["x"], "seed": -1}, "input.seed"),
    ],
)
def test_bad_inputs_are_problem_documents(client: TestClient, given: dict[str, Any], field: str) -> None:
    """Each bad input gets 422 with its field, in the problem document that Replicate's client reads."""
    answer = _create(client, **given)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert client.get("/replicate/v1/predictions").json()["results"] == []


def test_unknown_jobs_are_not_found(client: TestClient) -> None:
    """Any id that is no job of the caller gets 404."""
    for path in ("predictions/nope", "trainings/NO-PE", "predictions/per_00000000"):
        assert client.get(f"/replicate/v1/{path}").status_code == 404
        assert client.post(f"/replicate/v1/{path}/cancel").status_code == 404
