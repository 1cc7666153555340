"""Invalid personalization requests: each gets its status, code and field, and stores nothing."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageCms

from tests.integration.support.keys import make_key
from tests.integration.support.photos import REQUEST, create, parts, photo
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings


def _png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _animated() -> bytes:
    buffer = BytesIO()
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


INVALID_PHOTOS = {
    "empty": (b"", 422, "invalid_image"),
    "text": (b"hello, I am not an image", 422, "invalid_image"),
    "gif": (photo(form="GIF"), 422, "invalid_image"),
    "tiff": (photo(form="TIFF"), 422, "invalid_image"),
    "bmp": (photo(form="BMP"), 422, "invalid_image"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 422, "invalid_image"),
    "truncated png": (photo()[:-20], 422, "invalid_image"),
    "truncated jpeg": (photo((400, 400), "JPEG")[:700], 422, "invalid_image"),
    "bomb": (_png_header(30_000, 30_000), 422, "invalid_image"),
    "41 megapixels": (_png_header(8_200, 5_000), 422, "invalid_image"),
    "too narrow": (photo((700, 32)), 422, "invalid_image"),
    "too small": (photo((31, 64)), 422, "invalid_image"),
    "too long": (_png_header(16_385, 900), 422, "invalid_image"),
    "over 10 MB": (photo() + b"\x00" * 10_000_000, 413, "image_too_large"),
}


@pytest.mark.parametrize("fault", INVALID_PHOTOS)
def test_invalid_photo_is_named_and_nothing_is_created(
    client: TestClient, settings: ServiceSettings, fault: str
) -> None:
    """If the second of two photos is invalid, the response names it, and no row or object is stored."""
    content, status, code = INVALID_PHOTOS[fault]
    response = create(client, photo(), content)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["errors"][0]["field"] == "images"
    assert "photo1.png" in body["detail"]
    assert body["error"]["param"] == "images"
    assert client.get("/v1/personalizations").json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


INVALID_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "token is a word": ({"token": "dog"}, "invalid_token", "token"),
    "token in capitals": ({"token": "<Dog>"}, "invalid_token", "token"),
    "two tokens": (
        {"initializer": "zebra fish", "settings": {"vectors": 3}},
        "invalid_initializer",
        "initializer",
    ),
    "unknown base model": ({"base_model": "sd9"}, "unknown_base_model", "base_model"),
    "unknown setting": ({"settings": {"stepz": 3}}, "invalid_settings", "settings.stepz"),
    "setting out of range": ({"settings": {"n": 0}}, "invalid_settings", "settings.n"),
    "unknown preset": ({"settings": {"preset": "fast"}}, "invalid_settings", "settings.preset"),
    "unknown stop": ({"settings": {"stop": "never"}}, "invalid_settings", "settings.stop"),
    "zero steps": ({"settings": {"steps": 0}}, "invalid_settings", "settings.steps"),
    "wrong number of captions": ({"captions": ["a <my-dog>", "b <my-dog>"]}, "invalid_caption", "captions"),
    "caption without the token": ({"captions": ["a dog"]}, "invalid_caption", "captions"),
    "plain http webhook": ({"webhook": "http://example.org"}, "invalid_webhook", "webhook"),
    "webhook with a password": ({"webhook": "https://a:b@example.org"}, "invalid_webhook", "webhook"),
    "webhook with a space": ({"webhook": "https://exa mple.org"}, "invalid_webhook", "webhook"),
    "webhook with a non-ASCII host": ({"webhook": "https://exämple.org"}, "invalid_webhook", "webhook"),
    "webhook to a private address": ({"webhook": "https://10.0.0.1/x"}, "invalid_webhook", "webhook"),
    "webhook to a NAT64 address": ({"webhook": "https://[64:ff9b::a00:1]/"}, "invalid_webhook", "webhook"),
    "webhook to this machine": ({"webhook": "https://localhost:8443/"}, "invalid_webhook", "webhook"),
    "webhook without a scheme": ({"webhook": "example.org"}, "invalid_webhook", "webhook"),
    "unknown kind": ({"kind": "person"}, "invalid_request", "kind"),
    "too much metadata": ({"metadata": {f"k{n}": "v" for n in range(17)}}, "invalid_request", "metadata"),
}


@pytest.mark.parametrize("fault", INVALID_REQUESTS)
def test_invalid_request_names_the_field(client: TestClient, settings: ServiceSettings, fault: str) -> None:
    """The response is 422 with the error code and the field."""
    fields, code, field = INVALID_REQUESTS[fault]
    response = create(client, **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.json()["errors"][0]["field"] == field
    assert ObjectStore(settings.object_store).names("") == []


def test_number_of_photos(client: TestClient) -> None:
    """No photo and 17 photos get 422; a JSON body gets 415."""
    none = client.post(
        "/v1/personalizations",
        files=[("other", ("x", b"x"))],
        data={"request": '{"token":"<a>","initializer":"dog"}'},
    )
    assert (none.status_code, none.json()["code"]) == (422, "image_count")
    many = create(client, *[photo()] * 17)
    assert (many.status_code, many.json()["errors"][0]["field"]) == (422, "images")
    plain = client.post("/v1/personalizations", json=REQUEST)
    assert plain.status_code == 415
    assert plain.json()["code"] == "unsupported_media_type"


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"token": "\\ud800"}', '{"token": "\\u0000"}', ""])
def test_malformed_request_field(client: TestClient, text: str) -> None:
    """Deep nesting, truncated JSON, an unpaired surrogate, NUL and empty text get 422, not 500."""
    response = client.post(
        "/v1/personalizations", files=[("images", ("a.png", photo()))], data={"request": text}
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_damaged_multipart_body(client: TestClient) -> None:
    """A body that is incomplete or has parts without names gets 400."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhalf',
        b"--x\r\n\r\nv\r\n--x--\r\n",
        b"nonsense",
    ):
        response = client.post("/v1/personalizations", content=body, headers=headers)
        assert response.status_code == 400, body
        assert response.json()["code"] == "bad_request"


def test_first_frame_of_an_animation_is_stored(client: TestClient, settings: ServiceSettings) -> None:
    """The stored reference image contains only the first frame."""
    job = create(client, _animated()).json()
    stored = Image.open(
        BytesIO(ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png"))
    )
    assert getattr(stored, "n_frames", 1) == 1
    red, _, blue = stored.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
    assert red > 200 > 50 > blue


def test_images_are_converted_to_srgb(client: TestClient, settings: ServiceSettings) -> None:
    """A CMYK JPEG, a transparent PNG and an image with a color profile are stored as RGB without a profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    transparent = BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(transparent, "PNG")
    cmyk = BytesIO()
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(cmyk, "JPEG")
    created = create(client, cmyk.getvalue(), transparent.getvalue(), photo(icc_profile=profile))
    objects = ObjectStore(settings.object_store)
    stored = [
        Image.open(BytesIO(objects.get(f"jobs/{created.json()['id']}/references/0{k}.png"))) for k in range(3)
    ]
    assert [image.mode for image in stored] == ["RGB"] * 3
    assert not any("icc_profile" in image.info for image in stored)
    assert stored[1].getpixel((32, 32)) == (255, 255, 255)
    red, green, _ = stored[0].getpixel((32, 32))  # type: ignore[misc]
    assert red > 200 > 60 > green


def test_photos_of_a_refused_request_are_deleted(client: TestClient, settings: ServiceSettings) -> None:
    """After refusals for a full quota and a taken token, only the objects of the accepted jobs are stored."""
    key = make_key(settings, max_active_jobs=1)
    first = create(client, headers=key).json()["id"]
    full = create(client, token="<other>", headers=key)
    assert (full.status_code, full.json()["code"]) == (429, "quota_exceeded")
    taken = create(client, headers=make_key(settings, owner="bob"))
    assert taken.status_code == 202
    again = create(client, headers=make_key(settings, owner="bob"))
    assert (again.status_code, again.json()["code"], again.json()["errors"][0]["field"]) == (
        409,
        "token_taken",
        "token",
    )
    kept = {name.split("/")[1] for name in ObjectStore(settings.object_store).names("")}
    assert kept == {first, taken.json()["id"]}
    assert [job["id"] for job in client.get("/v1/personalizations", headers=key).json()["data"]] == [first]


def test_large_photo_is_reduced(client: TestClient, settings: ServiceSettings) -> None:
    """A photo of 3,000 × 2,000 px is stored with 1,536 × 1,024 px."""
    job = create(client, photo((3000, 2000), "JPEG")).json()
    stored = ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png")
    assert Image.open(BytesIO(stored)).size == (1536, 1024)


def test_unavailable_object_store_gives_503(client: TestClient, settings: ServiceSettings) -> None:
    """The response is 503 `storage_failed` with Retry-After, and no row is stored."""
    folder = settings.data_dir / "objects"
    folder.rmdir()
    folder.write_text("a file instead of the folder")
    response = create(client)
    assert (response.status_code, response.json()["code"]) == (503, "storage_failed")
    assert "Retry-After" in response.headers
    assert client.get("/v1/personalizations").json()["data"] == []


def test_files_of_other_parts_are_ignored(client: TestClient) -> None:
    """Only files of the part `images` are reference images."""
    response = client.post(
        "/v1/personalizations",
        files=[*parts(photo()), ("extra", ("x.png", photo()))],
        data={"request": '{"token":"<a>","initializer":"dog"}'},
    )
    assert response.status_code == 202
