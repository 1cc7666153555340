"""Images that attack the decoder: scan bombs, slow decodes of one owner, large photos."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pillow_heif import register_heif_opener

from api.app import create_app
from tests.integration.support.apis import api_thread
from tests.integration.support.keys import make_key
from tests.integration.support.photos import REQUEST, create, parts, photo
from tests.integration.support.processes import wait_until
from tests.tooling.pictures import file_of, halves, png_of
from zoodip_core.service.object_store import ObjectStore, job_prefix
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _scan_bomb() -> bytes:
    data = file_of(halves(), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last_scan * 200 + data[-2:]


def _decoders() -> list[psutil.Process]:
    """Return the running decoder processes of this process."""
    return [p for p in psutil.Process().children() if "api.decoding.child" in " ".join(p.cmdline())]


@pytest.mark.parametrize("query", ["", "?validate_only=true"])
def test_a_scan_bomb_is_refused(client: TestClient, query: str) -> None:
    """The response is 422 and names the file, and nothing is created."""
    response = create(client, photo(), _scan_bomb(), url=f"/v1/personalizations{query}")
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_image"
    assert "'photo1.png' (a JPEG file with 2" in response.json()["detail"]
    assert client.get("/v1/personalizations").json()["data"] == []


def test_phone_photos_are_stored_as_png(client: TestClient, settings: ServiceSettings) -> None:
    """A HEIC photo and a PNG of 48 megapixels are stored as PNG of the size that base models use."""
    register_heif_opener()
    large = png_of(8_064, 6_048, 1, 0, b"\xaa" * 1_008)
    created = create(client, file_of(halves(), "HEIF"), large)
    assert created.status_code == 202, created.text
    objects = ObjectStore(settings.object_store)
    stored = [
        Image.open(BytesIO(objects.get(name)))
        for name in sorted(objects.names(job_prefix(created.json()["id"])))
    ]
    assert [(image.format, image.size) for image in stored] == [("PNG", (64, 48)), ("PNG", (1_365, 1_024))]


def test_limits_of_images_are_settings(settings: ServiceSettings) -> None:
    """The message has the operator's limit."""
    limited = settings.model_copy(update={"max_image_megapixels": 0.005})
    with TestClient(create_app(limited), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        response = create(client, photo((100, 100)))
    assert response.status_code == 422
    assert "expected at most 0.005 megapixels" in response.json()["detail"]


def test_a_slow_decode_of_one_owner_delays_no_other_owner(settings: ServiceSettings) -> None:
    """While the decoder of one owner hangs and more of its uploads wait, another owner's upload is accepted."""
    app = create_app(settings.model_copy(update={"decode_timeout_s": 120.0}))
    with TestClient(app) as client, ThreadPoolExecutor(6) as threads:
        attacker, other = make_key(settings, owner="attacker"), make_key(settings, owner="other")
        assert create(client, token="<t0>", headers=attacker).status_code == 202
        (hanging,) = _decoders()
        hanging.suspend()
        try:
            slow = [threads.submit(create, client, token=f"<t{n}>", headers=attacker) for n in range(1, 7)]
            wait_until(lambda: "attacker" in app.state.service.decoders._in_use, "the slow decode")
            assert create(client, token="<mine>", headers=other).status_code == 202
            assert not any(upload.done() for upload in slow)
        finally:
            hanging.resume()
        assert [upload.result().status_code for upload in slow] == [202] * 6


def test_the_decoders_end_with_the_api(settings: ServiceSettings) -> None:
    """No process is left when the API stops."""
    settings.data_dir.mkdir(exist_ok=True)
    with api_thread(settings) as url:
        assert (
            httpx2.post(
                f"{url}/v1/personalizations",
                files=parts(photo()),
                data={"request": json.dumps(REQUEST)},
                timeout=60,
            ).status_code
            == 202
        )
        assert len(_decoders()) == 1
    wait_until(lambda: not _decoders(), "the end of the decoders")
