"""Photos as ZIP files: in personalizations, their validation and inspections, with captions next to the images."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.app import create_app
from tests.integration.support.photos import REQUEST, create, photo
from tests.tooling.archives import zip_of
from tests.tooling.pictures import file_of, halves
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import store
from zoodip_core.service.object_store import ObjectStore, reference_name
from zoodip_core.service.settings import ServiceSettings

_PHOTO = photo()
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _send(client: TestClient, *files: bytes, path: str = "/v1/personalizations", **fields: Any) -> Any:
    """Send files without content type, as `curl -F images=@photos.zip` does for unknown suffixes."""
    headers = {"Idempotency-Key": fields.pop("key")} if "key" in fields else None
    return client.post(
        path,
        files=[("images", (f"upload-{index}", content)) for index, content in enumerate(files)],
        data={"request": json.dumps(fields)},
        headers=headers,
    )


def _captions(settings: ServiceSettings, job_id: str) -> Any:
    database = Database(settings.database)
    try:
        with database.read() as connection:
            return store.find(connection, job_id).request["captions"]
    finally:
        database.close()


def test_images_and_captions_of_an_archive_are_used(client: TestClient, settings: ServiceSettings) -> None:
    """The images of an archive come at its place. A text file with the token is used, another is a warning."""
    archive = zip_of(
        ("photos/b.png", file_of(halves())),
        ("photos/a.png", _PHOTO),
        ("photos/a.txt", b"one <my-dog>\n"),
        ("photos/b.txt", b"a cat"),
        ("__MACOSX/photos/._a.png", b"x"),
    )
    body = _send(client, photo((64, 64)), archive, **REQUEST).json()
    found = [(warning["code"], warning["message"]) for warning in body["warnings"]]
    assert ("caption_unused", "the text file of b.png is not used; it does not contain <my-dog>") in found
    template = "a photo of a <my-dog>"
    assert _captions(settings, body["id"]) == [template, "one <my-dog>", template]
    objects = ObjectStore(settings.object_store)
    stored = [Image.open(BytesIO(objects.get(reference_name(body["id"], index)))) for index in range(3)]
    assert [image.size for image in stored] == [(64, 64), (96, 80), halves().size]


def test_captions_of_the_request_replace_text_files(client: TestClient, settings: ServiceSettings) -> None:
    """The request's captions are used for all images, in their order; crops are, too."""
    archive = zip_of(("a.png", _PHOTO), ("a.txt", b"one <my-dog>"), ("b.png", file_of(halves())))
    captions = ["first <my-dog>", "second <my-dog>"]
    body = _send(client, archive, **REQUEST, captions=captions).json()
    assert _captions(settings, body["id"]) == captions
    assert "caption_unused" not in {warning["code"] for warning in body["warnings"]}
    request = {**REQUEST, "token": "<other>"}
    refused = _send(client, archive, **request, captions=captions[:1])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_caption")


def test_inspections_and_validation_read_archives(client: TestClient, settings: ServiceSettings) -> None:
    """Both list the images of the archive and store nothing."""
    archive = zip_of(("a.png", file_of(halves(160, 64))), ("b.png", file_of(halves())))
    square = {"x": 0, "y": 0, "side": 64}
    images = _send(client, archive, path="/v1/inspections", crop=[square, None]).json()["images"]
    assert [(image["width"], image["crop"]["side"]) for image in images] == [(160, 64), (64, 48)]
    validated = _send(client, archive, path="/v1/personalizations?validate_only=true", **REQUEST).json()
    assert validated["images"] == 2
    assert ObjectStore(settings.object_store).names("") == []


def _damaged() -> bytes:
    content = bytearray(zip_of(("a.png", _PHOTO), ("b.png", file_of(halves()))))
    content[content.rindex(b"b.png", 0, content.index(b"PK\x01\x02")) + 20] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (zip_of(("../a.png", _PHOTO)), "(the entry '../a.png'); expected names inside the archive"),
        (zip_of(*((f"{n}.png", b"") for n in range(10_000))), "(too many entries); expected at most 100"),
        (_damaged(), "(the damaged entry 'b.png')"),
        (zip_of(("a.txt", b"a dog")), "(0 images)"),
        (zip_of(), "(0 images); expected 1 to 16"),
        (zip_of(("a.png", zip_of(("b.png", _PHOTO)))), "'a.png' (a zip file); expected PNG"),
        (
            zip_of(("a.png", _PHOTO), ("a.txt", b"<my-dog> " * 60)),
            "captions[0]: got a text of 539 characters",
        ),
        (zip_of(("a.png", _PHOTO), ("a.txt", b"<my-dog> \0")), "captions[0]: got text with a NUL"),
    ],
    ids=["traversal", "entries", "damaged", "no image", "empty", "nested", "long caption", "NUL"],
)
def test_hostile_archives_create_nothing(
    client: TestClient, settings: ServiceSettings, archive: bytes, words: str
) -> None:
    """The message names the field; no job is created, and no image stays stored."""
    answer = _send(client, archive, **REQUEST)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert client.get("/v1/personalizations").json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


def test_limits_are_those_of_uploads(settings: ServiceSettings) -> None:
    """An archive may be larger than one image, up to the size of all images. More than 16 images are refused."""
    rng = np.random.default_rng(0)
    noise = [file_of(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))) for _ in range(3)]
    small = settings.model_copy(update={"max_file_mb": max(map(len, noise)) / 1e6})
    with TestClient(create_app(small), base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        archive = zip_of(*((f"{index}.png", content) for index, content in enumerate(noise)))
        assert len(archive) > small.image_limits.max_file_bytes
        assert _send(client, archive, **REQUEST).status_code == 202
        url, request = "/v1/personalizations?validate_only=true", dict(REQUEST)
        for files in ([archive + bytes(16 * len(archive))], [archive] * 8):
            large = _send(client, *files, path=url, **request)
            assert (large.status_code, large.json()["code"]) == (413, "image_too_large")
        alone = _send(client, noise[0] + bytes(1), path=url, **request)
        assert (alone.status_code, alone.json()["code"]) == (413, "image_too_large")
        many = _send(client, zip_of(*((f"{n}.png", b"x") for n in range(16))), _PHOTO, path=url, **request)
        assert (many.status_code, many.json()["code"]) == (422, "image_count")


def test_a_repeated_key_replays_the_archive(client: TestClient) -> None:
    """The same archive is the same request, and another archive is not."""
    archive = zip_of(("a.png", _PHOTO))
    first, second = (_send(client, archive, **REQUEST, key="one") for _ in range(2))
    assert (second.json()["id"], second.headers["Idempotency-Replayed"]) == (first.json()["id"], "true")
    other = _send(client, zip_of(("b.png", _PHOTO)), **REQUEST, key="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_an_image_is_no_archive(client: TestClient) -> None:
    """An image with a ZIP file behind it is read as the image."""
    assert create(client, _PHOTO + zip_of(("../a.png", _PHOTO))).status_code == 202
