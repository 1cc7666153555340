"""Service on CUDA: from upload through a Celery worker to an image, with the embedded model."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from api.app import create_app
from tests.integration.support.photos import create, photo
from tests.integration.support.workers import wait_for_job, worker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_worker_on_cuda_learns_and_draws(tmp_path: Path) -> None:
    """Two batched personalizations succeed, a learned concept draws an image, and /metrics shows GPU memory."""
    settings = ServiceSettings(data_dir=tmp_path, device="cuda", log_level="INFO")
    with (
        TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client,
        worker(settings),
    ):
        job_ids = [
            create(client, photo(), token=f"<t{k}>", settings={"steps": 200}).json()["id"] for k in range(2)
        ]
        for job_id in job_ids:
            done = wait_for_job(settings, job_id, Status.SUCCEEDED, Status.FAILED, timeout_s=300)
            assert done.error is None
        body = {"prompt": "a photo of a <t1>"}
        drawn = client.post("/v1/generations", json=body, headers={"Prefer": "wait=60"}).json()
        assert drawn["status"] == "succeeded", drawn
        assert Image.open(BytesIO(client.get(drawn["images"][0]["url"]).content)).size == (64, 64)
        assert "zoodip_worker_gpu_memory_mb" in client.get("/metrics").text
