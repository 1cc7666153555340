"""A1111 façade without a worker: prompts, warnings, the selected model, progress, interrupt and errors."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.facades import drawing
from tests.integration.support.apis import api_thread
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.processes import wait_until
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases
from zoodip_core.service.jobs.records import JobSnapshot
from zoodip_core.service.jobs.snapshots import list_page
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait for a tenth of a second only, because no worker draws."""
    monkeypatch.setattr(drawing, "MAX_WAIT_S", 0.1)


@pytest.fixture
def database(settings: ServiceSettings) -> Iterator[Database]:
    """Database of the service."""
    database = Database(settings.database)
    database.migrate()
    yield database
    database.close()


def _generations(database: Database) -> list[JobSnapshot]:
    with database.read() as connection:
        return list_page(connection, "local", JobKind.GENERATION)[0]


def _request_of(client: TestClient, database: Database, **body: Any) -> dict[str, Any]:
    """Send a drawing request and return what the generation would draw."""
    assert client.post("/sdapi/v1/txt2img", json=body).status_code == 504
    return _generations(database)[0].request


def test_bare_names_are_concepts(client: TestClient, database: Database, catalog: Path) -> None:
    """A bare name means the concept in both prompts, also in weights; extra networks are removed."""
    client.post("/v1/concepts", files={"file": ("x.safetensors", tiny_concept(catalog))})
    for text, read, warned in (
        ("a my-dog, (My-Dog:1.2)", "a <my-dog>, (<my-dog>:1.2)", []),
        ("a <my-dog> and my-dogs", "a <my-dog> and my-dogs", []),
        ("a my-dog <lora:style:0.8>", "a <my-dog> ", ["prompt"]),
    ):
        request = _request_of(client, database, prompt=text, negative_prompt="my-dog")
        assert request["settings"]["prompt"] == read
        assert request["settings"]["prompt_syntax"] == "weighted"
        assert request["settings"]["negative_prompt"] == "<my-dog>"
        assert [warning["field"] for warning in request["warnings"]] == warned


def test_fields_are_translated_and_others_listed(client: TestClient, database: Database) -> None:
    """Fields of A1111 reach the generation. Each that asks for something else is listed, neutral values are not."""
    request = _request_of(
        client,
        database,
        prompt="a dog",
        seed="-1",
        batch_size=2,
        n_iter=3,
        steps=5,
        cfg_scale=4.5,
        width=130,
        sampler_name="Euler a",
        scheduler="Karras",
        override_settings={"sd_model_checkpoint": "other", "sd_vae": "x.pt", "CLIP_stop_at_last_layers": 1},
        tiling=True,
        enable_hr=False,
        hr_scale=2,
        subseed=-1,
        alwayson_scripts={},
    )
    drawn = request["settings"]
    assert (drawn["n"], drawn["steps"], drawn["guidance_scale"]) == (6, 5, 4.5)
    assert (drawn["width"], drawn["height"], drawn["scheduler"]) == (128, 64, "euler_ancestral")
    assert _generations(database)[0].base_model == "other"
    fields = [warning["field"] for warning in request["warnings"]]
    assert fields == ["scheduler", "size", "tiling", "override_settings.sd_vae"]
    old = _request_of(
        client, database, prompt="a dog", sampler_index="DPM++ 2M Karras", enable_hr=True, hr_scale=2
    )
    assert old["settings"]["scheduler"] == "dpm++_karras"
    assert [warning["field"] for warning in old["warnings"]] == ["enable_hr", "hr_scale"]
    unknown = _request_of(client, database, prompt="a dog", sampler_name="DPM adaptive", seed=5)
    assert (unknown["settings"]["scheduler"], unknown["settings"]["seed"]) == (None, 5)
    assert [warning["field"] for warning in unknown["warnings"]] == ["sampler_name"]


def test_errors_have_the_shape_of_a1111(client: TestClient) -> None:
    """Invalid values name A1111's fields."""
    for body, field in (
        ({"prompt": "a dog", "cfg_scale": -1}, "cfg_scale"),
        ({"prompt": "a dog", "batch_size": 64, "n_iter": 2}, "batch_size*n_iter"),
        ({"prompt": "a <my-cat>"}, "prompt"),
        ({"prompt": "a dog", "override_settings": {"sd_model_checkpoint": "nope"}}, "sd_model_checkpoint"),
    ):
        answer = client.post("/sdapi/v1/txt2img", json=body)
        assert (answer.status_code, list(answer.json())) == (422, ["error", "detail", "body", "errors"])
        assert answer.json()["detail"].startswith(f"{field}: got ")


def test_selected_model_belongs_to_the_owner(client: TestClient, settings: ServiceSettings) -> None:
    """A selection holds for later requests of the owner only; other options are listed and do not change."""
    alice = make_key(settings, owner="alice", scopes=("read", "write"))
    bob = make_key(settings, owner="bob", scopes=("read",))
    secret = alice["Authorization"].removeprefix("Bearer ").encode()
    basic = {"Authorization": "Basic " + base64.b64encode(b"any:" + secret).decode()}
    selected = {"sd_model_checkpoint": "other", "CLIP_stop_at_last_layers": 2}
    changed = client.post("/sdapi/v1/options", json=selected, headers=basic)
    assert [warning["field"] for warning in changed.json()["warnings"]] == ["CLIP_stop_at_last_layers"]
    for headers, name in ((alice, "other"), (basic, "other"), (bob, "tiny")):
        assert client.get("/sdapi/v1/options", headers=headers).json()["sd_model_checkpoint"] == name
    assert client.post("/sdapi/v1/options", json=selected, headers=bob).status_code == 403
    for credentials in ("Basic !", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Basic", "Digest x"):
        answer = client.get("/sdapi/v1/options", headers={"Authorization": credentials})
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


def test_progress_and_interrupt_are_about_own_generations(
    settings: ServiceSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`progress` shows the running generation; `interrupt` cancels those of this façade and no other."""
    monkeypatch.setattr(drawing, "MAX_WAIT_S", 60.0)
    with (
        api_thread(settings) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        native = client.post("/v1/generations", json={"prompt": "a dog"}).json()["id"]
        drawn = pool.submit(client.post, "/sdapi/v1/txt2img", json={"prompt": "a dog"})
        wait_until(lambda: len(_generations(database)) == 2, "the generation")
        job = _generations(database)[0]
        with database.write() as connection:
            claimed = leases.claim(connection, job.id, "w1", time.time(), 30.0)
            assert claimed is not None
            lease = leases.lease_of(claimed)
            values = {"step": 1, "eta_s": 2.0}
            leases.record(connection, lease, time.time(), event=("progress", values), values=values)
        state = client.get("/sdapi/v1/progress").json()
        assert (state["progress"], state["eta_relative"]) == (pytest.approx(1 / 3), 2.0)
        assert (state["state"]["job"], state["state"]["job_count"]) == (job.id, 1)
        assert client.post("/sdapi/v1/interrupt").json() == {}
        with database.write() as connection:
            assert leases.apply_stop_request(connection, lease, time.time()) is not None
        assert drawn.result(30).json()["error"] == "conflict"
        assert client.get(f"/v1/generations/{native}").json()["status"] == "queued"


def _png(*chunks: tuple[bytes, bytes]) -> str:
    body = b"".join(struct.pack(">I", len(data)) + kind + data + b"crc!" for kind, data in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


@pytest.mark.parametrize(
    ("image", "info"),
    [
        (_png((b"tEXt", b"parameters\0a dog\nSteps: 1")), "a dog\nSteps: 1"),
        ("data:image/png;base64," + _png((b"iTXt", b"prompt\0\0\0\0\0h\xc3\xbctte")), "hütte\n"),
        (_png((b"iTXt", b"parameters\0\1\0\0\0\x78\x9c")), ""),
        (_png((b"zTXt", b"parameters\0\0\x78\x9c")), ""),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt").decode(), ""),
    ],
)
def test_png_info_reads_uncompressed_text(client: TestClient, image: str, info: str) -> None:
    """Text is read without decoding the image; compressed, damaged and missing chunks give none."""
    answer = client.post("/sdapi/v1/png-info", json={"image": image})
    assert (answer.status_code, answer.json()["info"]) == (200, info)


def test_png_info_refuses_other_bodies(client: TestClient) -> None:
    """Other files, other JSON and a body beyond the limit are refused."""
    for content in (b"", b"[]", b"[" * 50_000, b'{"image": 1}', b'{"image": "!"}', b'{"image": "aGFsbG8="}'):
        assert client.post("/sdapi/v1/png-info", content=content).status_code == 422
    assert client.post("/sdapi/v1/png-info", content=b" " * 8_000_001).status_code == 413
