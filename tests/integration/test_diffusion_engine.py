"""Production engine behind the service, with a narrow model: crash recovery, batching, previews and overflow."""

from __future__ import annotations

import json
import shutil
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import load_file, save_file

from api.app import create_app
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.support.jobs import queue
from tests.integration.support.photos import create, photo
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import Worker, wait_for_job, wait_until_consuming, worker
from tests.tooling.pictures import digital_source_type
from zoodip_core.artifact import load_concept
from zoodip_core.config import GenerationSettings
from zoodip_core.service.database import Database
from zoodip_core.service.jobs.states import JobKind, Status
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def fast_settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings with short leases, no previews and a cache of 1 MB."""
    settings.data_dir.mkdir(exist_ok=True)
    changes = {
        "lease_s": 2.0,
        "heartbeat_s": 0.5,
        "tick_s": 0.2,
        "preview_every": 10_000,
        "log_level": "INFO",
    }
    return settings.model_copy(update={**changes, "max_bundle_mb": 1, "device": "cpu"})


def _embedding(client: TestClient, settings: ServiceSettings, job_id: str) -> np.ndarray:
    done = wait_for_job(settings, job_id, Status.SUCCEEDED, Status.FAILED, timeout_s=120)
    assert done.result is not None, done.error
    file = client.get(f"/v1/concepts/{done.result['concept_id']}/embedding").content
    return load_concept(file).embeddings["clip"]


@ON_POSTGRESQL
def test_resume_after_a_killed_worker_is_bit_identical(
    client: TestClient, fast_settings: ServiceSettings
) -> None:
    """After SIGKILL, another worker resumes from a checkpoint; the embedding equals that of an uninterrupted run."""
    request = {"settings": {"steps": 120, "n": 1}}
    first = Worker(fast_settings, fast_settings.data_dir / "first.log")
    wait_until_consuming(fast_settings, first)
    expected = _embedding(
        client,
        fast_settings,
        create(client, photo(color="red"), token="<uninterrupted>", **request).json()["id"],
    )
    made = create(client, photo(color="red"), token="<killed>", **request)
    wait_until(lambda: 20 in client.get(made.headers["Location"]).json()["checkpoints"], "a checkpoint", 60)
    first.kill()
    with worker(fast_settings) as second:
        resumed = _embedding(client, fast_settings, made.json()["id"])
        starts = [
            json.loads(line)
            for line in second.log.read_text().splitlines()
            if "personalization_started" in line
        ]
    assert starts[0]["step"] >= 20
    assert resumed.tobytes() == expected.tobytes()


@ON_SQLITE
def test_a_generation_does_not_wait_for_personalizations(
    client: TestClient, fast_settings: ServiceSettings
) -> None:
    """While two personalizations run on one base model, generations on it and on another one succeed."""
    with worker(fast_settings):
        running = [
            create(client, token=f"<t{k}>", settings={"steps": 100_000}).headers["Location"] for k in range(2)
        ]
        for url in running:
            wait_until(lambda url=url: client.get(url).json()["step"] >= 10, "ten steps", 60)
        for base_model in ("tiny", "other"):
            drawn = client.post(
                "/v1/generations",
                json={"prompt": "a dog", "base_model": base_model, "n": 2, "guidance_rescale": 0.5},
                headers={"Prefer": "wait=60"},
            )
            assert drawn.status_code == 200, drawn.text
        picture = Image.open(BytesIO(client.get(drawn.json()["images"][1]["url"]).content))
        assert picture.size == (64, 64)
        assert picture.info["prompt"] == "a dog"
        assert picture.info["seed"] == "1"
        assert len(picture.info["fingerprint"]) == 64
        assert json.loads(picture.info["settings"])["guidance_rescale"] == 0.5
        for url in running:
            assert client.get(url).json()["status"] == "running"
            client.post(f"{url}/cancel")
            wait_for_job(fast_settings, url.rpartition("/")[2], Status.CANCELLED)


@ON_SQLITE
def test_a_concept_of_a_fine_tune_draws(
    client: TestClient, fast_settings: ServiceSettings, catalog: Path
) -> None:
    """The worker accepts a concept of other weights whose import allowed it."""
    file = {"file": ("x.safetensors", tiny_concept(catalog))}
    fields = {"base_model": "other", "allow_model_mismatch": "true"}
    assert client.post("/v1/concepts", files=file, data=fields).status_code == 201
    body = {"prompt": "a photo of a <my-dog>", "base_model": "other"}
    with worker(fast_settings):
        drawn = client.post("/v1/generations", json=body, headers={"Prefer": "wait=60"})
    assert drawn.json()["status"] == "succeeded", drawn.text


@ON_SQLITE
def test_the_last_preview_equals_a_generation(client: TestClient, fast_settings: ServiceSettings) -> None:
    """The last preview equals, pixel for pixel, a generation with the concept and the same prompt and seed."""
    with worker(fast_settings):
        made = create(client, settings={"steps": 5})
        wait_for_job(fast_settings, made.json()["id"], Status.SUCCEEDED)
        body = {"prompt": "a photo of a <my-dog>", "seed": 0}
        drawn = client.post("/v1/generations", json=body, headers={"Prefer": "wait=60"}).json()
    preview = client.get(f"{made.headers['Location']}/previews/5.png").content
    generated = client.get(drawn["images"][0]["url"]).content
    assert Image.open(BytesIO(generated)).tobytes() == Image.open(BytesIO(preview)).tobytes()
    assert digital_source_type(generated) == digital_source_type(preview) == "trainedAlgorithmicMedia"


@ON_SQLITE
def test_an_overflowing_model_fails_without_an_image(
    fast_settings: ServiceSettings, catalog: Path, tmp_path: Path
) -> None:
    """With a VAE whose sums are infinite, the generation fails with `image_not_finite` and stores no image."""
    broken = shutil.copytree(catalog.parent / "tiny", tmp_path / "broken")
    (weights,) = (broken / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["decoder.conv_out.weight"][:] = 3e38  # finite, so that it loads, but its sums overflow
    save_file(tensors, weights, {"format": "pt"})
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        '[[base_models]]\nname = "broken"\npath = "broken"\nprecision = "fp32"\ndefault = true\nsteps = 3\n'
    )
    overflowing = fast_settings.model_copy(update={"base_models": catalog})
    with (
        TestClient(create_app(overflowing), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client,
        worker(overflowing),
    ):
        made = client.post("/v1/generations", json={"prompt": "a dog"}).json()
        failed = wait_for_job(overflowing, made["id"], Status.FAILED, Status.SUCCEEDED)
        shown = client.get(f"/v1/generations/{made['id']}").json()
        missing = client.get(f"/v1/generations/{made['id']}/images/0.png")
    assert failed.error is not None
    assert (shown["error"]["code"], shown["error"]["retryable"]) == ("image_not_finite", False)
    assert shown["images"] == []
    assert missing.status_code == 404


@ON_SQLITE
def test_the_worker_checks_limits_as_well(database: Database, fast_settings: ServiceSettings) -> None:
    """A generation that the API accepted without the base model's files fails on the worker if it is too large."""
    request = {"settings": GenerationSettings(prompt="a dog", width=4096, height=4096).model_dump()}
    generation = queue(
        database,
        kind=JobKind.GENERATION,
        now=time.time(),
        base_model="tiny",
        token=None,
        request={**request, "concepts": {}},
        total_steps=20,
    )
    with worker(fast_settings):
        failed = wait_for_job(fast_settings, generation.id, Status.FAILED, Status.SUCCEEDED)
    assert failed.error is not None
    assert (failed.error["code"], failed.error["retryable"]) == ("invalid_settings", False)
    assert "size: got 4096x4096; expected at most 16384 pixels" in failed.error["message"]
