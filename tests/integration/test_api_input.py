"""Bad input: every row of "Uploads and egress", each with its status, code and field, and nothing left behind."""

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
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


BAD_PHOTOS = {
    "empty": (b"", 422, "invalid_image"),
    "text": (b"hello, I am no image", 422, "invalid_image"),
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


@pytest.mark.parametrize("fault", BAD_PHOTOS)
def test_a_bad_photo_is_named_and_nothing_is_made(
    client: TestClient, settings: ServiceSettings, fault: str
) -> None:
    """The second of two photos is bad: the answer names it, no row and no object stays."""
    content, status, code = BAD_PHOTOS[fault]
    response = create(client, photo(), content)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["errors"][0]["field"] == "images"
    assert "photo1.png" in body["detail"]
    assert body["error"]["param"] == "images"
    assert client.get("/v1/personalizations").json()["data"] == []
    assert ObjectStore(settings.object_store).names("") == []


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "token is a word": ({"token": "dog"}, "invalid_token", "token"),
    "token in capitals": ({"token": "<Dog>"}, "invalid_token", "token"),
    "two tokens": ({"initializer": "zebra fish"}, "invalid_initializer", "initializer"),
    "unknown base model": ({"base_model": "sd9"}, "unknown_base_model", "base_model"),
    "unknown setting": ({"settings": {"stepz": 3}}, "invalid_settings", "settings.stepz"),
    "setting out of range": ({"settings": {"n": 0}}, "invalid_settings", "settings.n"),
    "unknown preset": ({"settings": {"preset": "fast"}}, "invalid_settings", "settings.preset"),
    "unknown stop": ({"settings": {"stop": "never"}}, "invalid_settings", "settings.stop"),
    "zero steps": ({"settings": {"steps": 0}}, "invalid_settings", "settings.steps"),
    "captions of another number": ({"captions": ["a <my-dog>", "b <my-dog>"]}, "invalid_caption", "captions"),
    "caption without the token": ({"captions": ["a dog"]}, "invalid_caption", "captions"),
    "plain http webhook": ({"webhook": "http://example.org"}, "invalid_webhook", "webhook"),
    "webhook with a password": ({"webhook": "https://a:b@example.org"}, "invalid_webhook", "webhook"),
    "webhook with a space": ({"webhook": "https://exa mple.org"}, "invalid_webhook", "webhook"),
    "webhook in another script": ({"webhook": "https://exämple.org"}, "invalid_webhook", "webhook"),
    "no url at all": ({"webhook": "example.org"}, "invalid_webhook", "webhook"),
    "unknown kind": ({"kind": "person"}, "invalid_request", "kind"),
    "too much metadata": ({"metadata": {f"k{n}": "v" for n in range(17)}}, "invalid_request", "metadata"),
}


@pytest.mark.parametrize("fault", BAD_REQUESTS)
def test_a_bad_request_names_its_field(client: TestClient, settings: ServiceSettings, fault: str) -> None:
    """422 with the stable code and the field."""
    fields, code, field = BAD_REQUESTS[fault]
    response = create(client, **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.json()["errors"][0]["field"] == field
    assert ObjectStore(settings.object_store).names("") == []


def test_numbers_of_photos(client: TestClient) -> None:
    """None, 17 and a body that is no form."""
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
def test_a_request_field_that_cannot_be_read(client: TestClient, text: str) -> None:
    """Nested beyond measure, cut off, with half a character or NUL: 422, not a fault of the server."""
    response = client.post(
        "/v1/personalizations", files=[("images", ("a.png", photo()))], data={"request": text}
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_damaged_multipart_bodies(client: TestClient) -> None:
    """A body that ends early or has parts without names is 400."""
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


def test_an_animated_photo_gives_its_first_frame(client: TestClient, settings: ServiceSettings) -> None:
    """The stored reference is the first frame alone."""
    job = create(client, _animated()).json()
    stored = Image.open(
        BytesIO(ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png"))
    )
    assert getattr(stored, "n_frames", 1) == 1
    red, _, blue = stored.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
    assert red > 200 > 50 > blue


def test_colours_of_another_space_are_stored_as_plain_srgb(
    client: TestClient, settings: ServiceSettings
) -> None:
    """A CMYK JPEG, a transparent PNG and one with a profile become RGB files without a profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    transparent = BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(transparent, "PNG")
    cmyk = BytesIO()
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(cmyk, "JPEG")
    made = create(client, cmyk.getvalue(), transparent.getvalue(), photo(icc_profile=profile))
    objects = ObjectStore(settings.object_store)
    stored = [
        Image.open(BytesIO(objects.get(f"jobs/{made.json()['id']}/references/0{k}.png"))) for k in range(3)
    ]
    assert [image.mode for image in stored] == ["RGB"] * 3
    assert not any("icc_profile" in image.info for image in stored)
    assert stored[1].getpixel((32, 32)) == (255, 255, 255)
    red, green, _ = stored[0].getpixel((32, 32))  # type: ignore[misc]
    assert red > 200 > 60 > green


def test_a_refusal_after_the_photos_were_stored_takes_them_back(
    client: TestClient, settings: ServiceSettings
) -> None:
    """A quota that is full and a name that is taken: no row, and of the objects only the first job's."""
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


def test_a_large_photo_is_stored_at_a_size_that_models_use(
    client: TestClient, settings: ServiceSettings
) -> None:
    """3000×2000 px become 1536×1024."""
    job = create(client, photo((3000, 2000), "JPEG")).json()
    stored = ObjectStore(settings.object_store).get(f"jobs/{job['id']}/references/00.png")
    assert Image.open(BytesIO(stored)).size == (1536, 1024)


def test_a_dead_object_store_is_a_typed_error(client: TestClient, settings: ServiceSettings) -> None:
    """503 storage_failed, Retry-After, and no row."""
    folder = settings.data_dir / "objects"
    folder.rmdir()
    folder.write_text("a file where the folder was")
    response = create(client)
    assert (response.status_code, response.json()["code"]) == (503, "storage_failed")
    assert "Retry-After" in response.headers
    assert client.get("/v1/personalizations").json()["data"] == []


def test_images_parts_of_a_right_request_only(client: TestClient) -> None:
    """Files of other parts are not taken for photos."""
    response = client.post(
        "/v1/personalizations",
        files=[*parts(photo()), ("extra", ("x.png", photo()))],
        data={"request": '{"token":"<a>","initializer":"dog"}'},
    )
    assert response.status_code == 202
