"""Prompt sets of the service: accepted and refused requests, and images of the production engine."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.integration.support.concepts import tiny_concept
from tests.integration.support.databases import ON_SQLITE
from tests.integration.support.workers import worker
from tests.tooling.pictures import digital_source_type
from zoodip_core.grid import TILE_PX
from zoodip_core.service.settings import ServiceSettings

SET = {"prompts": ["a {token} on a beach", "a fox"], "concepts": ["<my-dog>", "<my-cat>"], "n": 2}


@pytest.fixture
def concepts(client: TestClient, catalog: Path) -> dict[str, str]:
    """Import two concepts; return their ids by token."""
    content = tiny_concept(catalog)
    return {
        token: client.post(
            "/v1/concepts", files={"file": ("x.safetensors", content)}, data={"token": token}
        ).json()["id"]
        for token in ("<my-dog>", "<my-cat>")
    }


def test_a_set_is_one_job_with_a_group_for_each_prompt_and_concept(
    client: TestClient, concepts: dict[str, str]
) -> None:
    """Names without brackets are read, too. A single prompt has no groups; `validate_only` creates nothing."""
    body = {**SET, "concepts": ["my-dog", "<my-cat>"]}
    estimate = client.post("/v1/generations?validate_only=true", json=body).json()
    drawn = ["a <my-dog> on a beach", "a <my-cat> on a beach", "a fox"]
    assert estimate["prompts"] == drawn
    assert estimate["estimated_usage"] == {"evaluations": 3 * 2 * 3 * 2, "seconds": None, "images": 6}
    assert client.get("/v1/generations").json()["data"] == []
    job = client.post("/v1/generations", json=body)
    assert job.status_code == 202, job.text
    groups = [(one["template"], one["concept"], one["prompt"]) for one in job.json()["groups"]]
    beach = "a {token} on a beach"
    assert groups == [
        (beach, "<my-dog>", drawn[0]),
        (beach, "<my-cat>", drawn[1]),
        ("a fox", None, "a fox"),
    ]
    assert client.get(f"{job.headers['Location']}/contact-sheet.png").status_code == 409
    assert client.post("/v1/generations", json={"prompt": "a fox"}).json()["groups"] is None


def test_a_bad_set_is_refused_with_its_field(client: TestClient, concepts: dict[str, str]) -> None:
    """Each request has one error, and nothing is created."""
    long = "word " * 200
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "prompt", "prompt: got nothing; expected a prompt, or a list in prompts"),
        ({"prompt": "x", "prompts": ["y"]}, "prompts", "prompts: got both prompt and prompts"),
        ({"prompt": "x", "concepts": ["<my-dog>"]}, "concepts", "expected none without prompts"),
        ({"prompts": []}, "prompts", "prompts: got 0 prompts; expected 1 to 64"),
        ({"prompts": ["x"] * 65}, "prompts", "prompts: got 65 prompts; expected 1 to 64"),
        ({"prompts": ["a {name}"]}, "prompts", "prompts[0]: got {name}"),
        ({"prompts": ["a {token}"]}, "concepts", "concepts: got none; expected at least one"),
        ({"prompts": ["a {token}"], "concepts": ["<cow>"]}, "concepts", "concepts[0]: got <cow>"),
        ({"prompts": ["x", "a <cow>"]}, "prompts", "prompts[1]: got <cow>; expected a token"),
        ({"prompts": ["a <my-bat>"]}, "prompts", "; did you mean <my-cat>"),
        ({"prompts": ["x", long]}, "prompts", "prompts[1]: got a prompt longer than the text window"),
        ({"prompts": ["x"] * 33, "n": 2}, "n", "n: got 66 images of 33 prompts; expected at most 64"),
        (
            {"prompts": ["x"] * 64, "steps": 400},
            "n",
            "n: got 64 images of 64x64 in 400 steps; expected at most",
        ),
    ]
    for body, field, message in cases:
        refused = client.post("/v1/generations", json=body)
        problem = refused.json()
        assert (refused.status_code, message in problem["detail"]) == (422, True), (body, problem)
        assert [one["field"] for one in problem["errors"]] == [field]
    assert client.get("/v1/generations").json()["data"] == []


@ON_SQLITE
@pytest.mark.slow
def test_each_image_has_its_own_prompt(
    client: TestClient, settings: ServiceSettings, concepts: dict[str, str]
) -> None:
    """Groups and PNG files agree, and an image of a set equals that of its prompt alone, up to rounding."""
    settings.data_dir.mkdir(exist_ok=True)
    with worker(settings.model_copy(update={"device": "cpu"})):
        job = client.post("/v1/generations", json=SET, headers={"Prefer": "wait=60"}).json()
        alone = client.post(
            "/v1/generations", json={"prompt": "a <my-cat> on a beach"}, headers={"Prefer": "wait=60"}
        ).json()
    assert job["status"] == "succeeded", job
    assert job["result"]["usage"]["images"] == 6
    for group in job["groups"]:
        assert [image["seed"] for image in group["images"]] == [0, 1]
        for image in group["images"]:
            picture = Image.open(BytesIO(client.get(image["url"]).content))
            assert isinstance(picture.info, dict)
            assert (picture.info["prompt"], picture.info["seed"]) == (group["prompt"], str(image["seed"]))
            token = group["concept"]
            assert json.loads(picture.info["concepts"]) == ({token: concepts[token]} if token else {})
    single, of_set = (
        Image.open(BytesIO(client.get(url).content))
        for url in (alone["images"][0]["url"], job["groups"][1]["images"][0]["url"])
    )
    differences = zip(single.tobytes(), of_set.tobytes(), strict=True)
    assert max(abs(a - b) for a, b in differences) <= 1
    sheet = client.get(f"/v1/generations/{job['id']}/contact-sheet.png").content
    assert digital_source_type(sheet) == "trainedAlgorithmicMedia"
    assert Image.open(BytesIO(sheet)).width > 4 * TILE_PX
