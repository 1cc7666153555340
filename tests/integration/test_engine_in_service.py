"""The real engine behind the service, on a narrow model: the same bits after a crash, company, honest pictures."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import load_file, save_file

from api.app import create_app
from tests.integration.support.photos import create, photo
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import Worker, wait_for_job, wait_until_consuming, worker
from zoodip_core.artifact import load_concept
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def quick(settings: ServiceSettings) -> ServiceSettings:
    """The real engine with quick leases and few previews."""
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


def test_a_killed_worker_costs_no_bit(client: TestClient, quick: ServiceSettings) -> None:
    """A kill -9 in mid-step, resumed by another worker from the checkpoint: the token of an undisturbed run."""
    asked = {"settings": {"steps": 120, "n": 1}}
    first = Worker(quick, quick.data_dir / "first.log")
    wait_until_consuming(quick, first)
    calm = _embedding(
        client, quick, create(client, photo(colour="red"), token="<calm>", **asked).json()["id"]
    )
    made = create(client, photo(colour="red"), token="<hurt>", **asked)
    wait_until(lambda: 20 in client.get(made.headers["Location"]).json()["checkpoints"], "a checkpoint", 60)
    first.kill()
    with worker(quick) as second:
        hurt = _embedding(client, quick, made.json()["id"])
        begins = [
            json.loads(line)
            for line in second.log.read_text().splitlines()
            if "personalization_begins" in line
        ]
    assert begins[0]["step"] >= 20
    assert begins[0]["attempt"] == 2
    assert hurt.tobytes() == calm.tobytes()


def test_a_generation_does_not_wait_for_trainings(client: TestClient, quick: ServiceSettings) -> None:
    """With two personalizations under way on one base model, pictures of another come in between."""
    with worker(quick):
        running = [
            create(client, token=f"<t{k}>", settings={"steps": 100_000}).headers["Location"] for k in range(2)
        ]
        for url in running:
            wait_until(lambda url=url: client.get(url).json()["step"] >= 10, "ten steps", 60)
        for base_model in ("tiny", "other"):
            drawn = client.post(
                "/v1/generations",
                json={"prompt": "a dog", "base_model": base_model, "n": 2},
                headers={"Prefer": "wait=60"},
            )
            assert drawn.status_code == 200, drawn.text
        picture = Image.open(BytesIO(client.get(drawn.json()["images"][1]["url"]).content))
        assert picture.size == (64, 64)
        assert picture.info["prompt"] == "a dog"
        assert picture.info["seed"] == "1"
        assert len(picture.info["fingerprint"]) == 64
        for url in running:
            assert client.get(url).json()["status"] == "running"
            client.post(f"{url}/cancel")
            wait_for_job(quick, url.rpartition("/")[2], Status.CANCELLED)


def test_previews_do_not_lie(client: TestClient, quick: ServiceSettings) -> None:
    """The last preview of a job is, pixel for pixel, what its concept draws later from the same prompt and seed."""
    with worker(quick):
        made = create(client, settings={"steps": 5})
        wait_for_job(quick, made.json()["id"], Status.SUCCEEDED)
        body = {"prompt": "a photo of a <my-dog>", "seed": 0}
        drawn = client.post("/v1/generations", json=body, headers={"Prefer": "wait=60"}).json()
    preview = client.get(f"{made.headers['Location']}/previews/5.png").content
    later = client.get(drawn["images"][0]["url"]).content
    assert Image.open(BytesIO(later)).tobytes() == Image.open(BytesIO(preview)).tobytes()


def test_a_model_that_overflows_gives_an_error_and_no_black_image(
    quick: ServiceSettings, catalogue: Path, tmp_path: Path
) -> None:
    """A VAE whose sums are infinite: the generation fails with a code, and no image is stored."""
    broken = shutil.copytree(catalogue.parent / "tiny", tmp_path / "broken")
    (weights,) = (broken / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["decoder.conv_out.weight"][:] = 3e38  # finite, so it loads; no sum of such is
    save_file(tensors, weights, {"format": "pt"})
    listed = tmp_path / "catalogue.toml"
    listed.write_text(
        '[[base_models]]\nname = "broken"\npath = "broken"\nprecision = "fp32"\ndefault = true\nsteps = 3\n'
    )
    overflowing = quick.model_copy(update={"base_models": listed})
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
