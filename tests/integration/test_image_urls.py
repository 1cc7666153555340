"""Reference images by URL, from a real HTTP server: redirects, limits, private addresses, slow servers, replays."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpcore2
import pytest
from fastapi.testclient import TestClient

from api import image_downloads
from api.app import create_app
from api.requests import reference_files
from tests.integration.support.keys import make_key
from tests.integration.support.photo_servers import PhotoServer, photo_server
from tests.integration.support.photos import REQUEST, create, photo
from tests.integration.support.processes import wait_until
from tests.tooling.archives import zip_of
from tests.tooling.certificates import write_certificate
from tests.tooling.pictures import file_of, halves
from zoodip_core.service.errors import InvalidImageUrlError
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

_NAME = "0x7f.1"  # a host name that leads to 127.0.0.1 but does not look private
_FILES = {
    "/dog.png": photo(),
    "/halves.jpg": file_of(halves(160, 64), "JPEG"),
    "/big.png": photo() + bytes(10_000_000),
    "/page.html": b"<html>secret of the server</html>",
    "/photos.zip": zip_of(("a.png", photo())),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PhotoServer]:
    """Server of photos for all tests."""
    with photo_server(_FILES) as running:
        yield running


@pytest.fixture
def private(settings: ServiceSettings) -> ServiceSettings:
    """Settings that permit downloads from the loopback address."""
    return settings.model_copy(update={"image_urls": "private"})


@pytest.fixture
def client(private: ServiceSettings) -> Iterator[TestClient]:
    """Client of an API that downloads from the loopback address."""
    with TestClient(create_app(private), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        yield client


def _post(
    client: TestClient, *urls: str, path: str = "/v1/personalizations", headers: Any = None, **request: Any
) -> Any:
    """Send a request that names images by URL, and no files."""
    fields = request if path == "/v1/inspections" else {**REQUEST, **request}
    body = json.dumps({**fields, "image_urls": urls})
    return client.post(path, files={"request": (None, body)}, headers=headers)


def test_images_come_from_urls(client: TestClient, server: PhotoServer, private: ServiceSettings) -> None:
    """Images by URL follow the uploaded ones, also through redirects; all three routes take them."""
    urls = [server.url("/dog.png"), server.url("/to//halves.jpg")]
    images = _post(client, *urls, path="/v1/inspections").json()["images"]
    assert [(image["width"], image["format"]) for image in images] == [(96, "PNG"), (160, "JPEG")]
    validated = _post(client, *urls, path="/v1/personalizations?validate_only=true").json()
    assert validated["images"] == 2
    assert ObjectStore(private.object_store).names("") == []
    square = {"x": 96, "y": 0, "side": 64}
    job = create(client, photo((40, 40)), image_urls=urls, crop=[None, None, square])
    assert job.status_code == 202
    assert len(ObjectStore(private.object_store).names("")) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "got the status 404; expected 200"),
        ("/big.png", "got a file of more than 10,000,000 bytes; expected at most 10,000,000 bytes"),
        ("/page.html", "got 'page.html' (unknown format); expected PNG, JPEG, WebP, HEIC or AVIF"),
        ("/photos.zip", "got 'photos.zip' (a zip file); expected PNG"),
        ("/short", "got no complete response; expected a server with a public address"),
        ("/to/ftp://127.0.0.1/", "got a redirect to a URL that is not allowed"),
        ("/to//to//to//to//to//dog.png", "got more than 3 redirects; expected at most 3"),
    ],
)
def test_other_responses_are_refused(
    client: TestClient, server: PhotoServer, private: ServiceSettings, path: str, message: str
) -> None:
    """The message names the URL by its index and repeats nothing of the response; nothing is created."""
    answer = _post(client, server.url("/dog.png"), server.url(path))
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert detail.startswith(f"image_urls[1]: {message}")
    assert "secret" not in detail
    assert answer.json()["errors"][0]["field"] == "image_urls"
    assert client.get("/v1/personalizations").json()["data"] == []
    assert ObjectStore(private.object_store).names("") == []


def test_urls_are_off_by_default(settings: ServiceSettings, server: PhotoServer) -> None:
    """Without the setting a request with URLs is refused, and nothing is requested."""
    count = len(server.requested)
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        answer = _post(client, server.url("/dog.png"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image_url")
    assert "image_urls: got 1 URL; expected no URLs" in answer.json()["detail"]
    assert len(server.requested) == count


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/a.png", "got 'http://example.org/a.png'; expected an https URL"),
        ("https://10.0.0.1/a.png", "got the host 10.0.0.1; expected a host with a public address"),
        ("https://0x7f.1/a.png", "got no complete response"),
        ("https://localhost.localdomain.invalid/", "got no complete response"),
        (f"https://{'a' * 70}.org/", "got no complete response"),
    ],
)
def test_private_addresses_are_refused(settings: ServiceSettings, url: str, message: str) -> None:
    """A name that leads to a private address and one that is unknown get the same message."""
    public = settings.model_copy(update={"image_urls": "public"})
    with TestClient(create_app(public), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        answer = _post(client, url)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image_url")
    assert answer.json()["detail"].startswith(f"image_urls[0]: {message}")
    assert "127.0.0.1" not in answer.json()["detail"]


async def _download(url: str, *, guarded: bool, private: bool, trusted: Path | None = None) -> bytes:
    """Download a file with one of the two guards, or both: that of the connection, and that of the URL."""
    network = image_downloads.GuardedNetwork(anyio.CapacityLimiter(1), private=not guarded)
    context = ssl.create_default_context(cafile=trusted)
    received: list[bytes] = []
    async with httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=network) as connections:
        downloader = image_downloads.ImageDownloader(connections, private=private, max_bytes=10_000)
        await downloader.download(url, received.append, field="image_urls[0]")
    return b"".join(received)


@pytest.mark.usefixtures("database_url")
def test_connections_are_guarded(server: PhotoServer) -> None:
    """A URL that passes its check is not requested if its host has a private address."""
    count = len(server.requested)
    with pytest.raises(InvalidImageUrlError, match=r"image_urls\[0\]: got no complete response"):
        asyncio.run(_download(server.url("/dog.png"), guarded=True, private=True))
    assert len(server.requested) == count


@pytest.mark.usefixtures("database_url")
def test_certificates_and_redirects_are_checked(tmp_path: Path) -> None:
    """An https server needs a trusted certificate of its name; its redirects are checked as the URL itself."""
    own, other = tmp_path / "own.pem", tmp_path / "other.pem"
    write_certificate(own, _NAME)
    write_certificate(other, "example.org")

    def fetch(server: PhotoServer, path: str, trusted: Path | None) -> bytes:
        url = f"https://{_NAME}:{server.server_port}{path}"
        return asyncio.run(_download(url, guarded=False, private=False, trusted=trusted))

    with photo_server(_FILES, own) as secure, photo_server(_FILES, other) as misnamed:
        assert fetch(secure, "/to//dog.png", own) == _FILES["/dog.png"]
        for server, trusted in ((secure, None), (misnamed, other)):
            with pytest.raises(InvalidImageUrlError, match="got no complete response"):
                fetch(server, "/dog.png", trusted)
        for moved in ("http://example.org/", "https://127.0.0.1/", "https://localhost/", "https://[::1"):
            with pytest.raises(InvalidImageUrlError) as refused:
                fetch(secure, f"/to/{moved}", own)
            assert refused.value.message == (
                "image_urls[0]: got a redirect to a URL that is not allowed; expected an https URL with a public "
                "address"
            )


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"token": "dog"}, "invalid_token"),
        ({"captions": ["a <my-dog>", "the <my-dog>"]}, "invalid_caption"),
        ({"settings": {"steps": 0}}, "invalid_settings"),
    ],
)
def test_invalid_requests_download_nothing(
    client: TestClient, server: PhotoServer, request_: dict[str, Any], code: str
) -> None:
    """All of a request but its images is validated before the first download."""
    count = len(server.requested)
    answer = _post(client, server.url("/dog.png"), **request_)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    many = _post(client, *[server.url("/dog.png")] * 17)
    assert many.status_code == 422
    assert (
        create(client, *[photo()] * 16, image_urls=[server.url("/dog.png")]).json()["code"] == "image_count"
    )
    assert len(server.requested) == count


def test_a_repeated_key_downloads_nothing(client: TestClient) -> None:
    """A replay needs no server: the same URLs are the same request, and others are not."""
    key = {"Idempotency-Key": "one"}
    with photo_server(_FILES) as gone:
        url = gone.url("/dog.png")
        first = _post(client, url, headers=key)
    second = _post(client, url, headers=key)
    assert (second.json()["id"], second.headers["Idempotency-Replayed"]) == (first.json()["id"], "true")
    other = _post(client, url + "?other", headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    failed = _post(client, url, headers={"Idempotency-Key": "two"}, token="<other>")
    assert (failed.status_code, failed.json()["code"]) == (422, "invalid_image_url")


@pytest.mark.parametrize(
    ("path", "limits", "message"),
    [
        ("/slow", {"pause": 0.2}, "got no complete response"),
        (
            "/drip",
            {"deadline": 0.5},
            "got no complete image in time; expected all images of a request within",
        ),
    ],
)
def test_slow_servers_are_cut_off(
    client: TestClient,
    server: PhotoServer,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    limits: dict[str, float],
    message: str,
) -> None:
    """A pause and the total time have limits."""
    monkeypatch.setattr(image_downloads, "MAX_PAUSE_S", limits.get("pause", 60.0))
    monkeypatch.setattr(reference_files, "DEADLINE_S", limits.get("deadline", 60.0))
    answer = _post(client, server.url(path))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"image_urls[0]: {message}")


def test_slow_servers_of_one_owner_delay_nobody(client: TestClient, private: ServiceSettings) -> None:
    """One owner has at most eight requests that download. Its uploads, and downloads of others, are served."""
    mine, other = (make_key(private, owner=name, scopes=("read", "write")) for name in ("mine", "other"))
    limit = image_downloads.MAX_OPEN // 2
    with photo_server(_FILES) as slow, ThreadPoolExecutor(limit) as pool:
        waiting = [pool.submit(_post, client, slow.url("/slow"), headers=mine) for _ in range(limit)]
        wait_until(lambda: len(slow.requested) == limit, "the downloads")
        refused = _post(client, slow.url("/dog.png"), headers=mine)
        assert (refused.status_code, refused.json()["code"]) == (503, "uploads_busy")
        assert int(refused.headers["Retry-After"]) > 0
        assert create(client, headers=mine).status_code == 202
        assert _post(client, slow.url("/dog.png"), headers=other).status_code == 202
        assert client.get("/v1/concepts", headers=mine).status_code == 200
        assert not any(request.done() for request in waiting)
        slow.released.set()
        assert {request.result().status_code for request in waiting} == {422}


def test_stored_bytes_count_for_the_quota(private: ServiceSettings, server: PhotoServer) -> None:
    """An image by URL counts like an upload. A caller whose quota of jobs is exhausted downloads nothing."""
    limited = private.model_copy(update={"max_stored_mb": 2e-4})
    with TestClient(create_app(limited), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        large = _post(client, server.url("/halves.jpg"))
        assert (large.status_code, large.json()["code"]) == (429, "quota_exceeded")
        assert ObjectStore(private.object_store).names("") == []
        count = len(server.requested)
        refused = _post(client, server.url("/dog.png"), headers=make_key(limited, max_active_jobs=0))
        assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
        assert len(server.requested) == count
