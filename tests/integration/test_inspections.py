"""`POST /v1/inspections`: size, format, used square and warnings of photos; nothing is stored."""

from __future__ import annotations

import json
from importlib.resources import files
from io import BytesIO
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageFilter

from tests.integration.support.photos import create, parts, photo
from tests.tooling.pictures import file_of, halves
from zoodip_core.service.object_store import ObjectStore, reference_name
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """The most detailed reference image of the demo, enlarged to 384 px."""
    data = (files("zoodip_core") / "assets/demo/reference-4.png").read_bytes()
    return Image.open(BytesIO(data)).convert("RGB").resize((384, 384), Image.Resampling.NEAREST)


def _inspect(client: TestClient, *photos: bytes) -> Any:
    response = client.post("/v1/inspections", files=parts(*photos))
    assert response.status_code == 200, response.text
    return response.json()


def test_each_image_is_described(client: TestClient, settings: ServiceSettings) -> None:
    """Size and format are those of the upright original, also of a photo that is larger than base models use."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    turned = file_of(halves(2_400, 1_500), "JPEG", exif=exif)
    body = _inspect(client, turned, file_of(halves(64, 48), "WEBP"))
    assert body["object"] == "inspection"
    large, small = body["images"]
    assert (large["width"], large["height"], large["format"]) == (1_500, 2_400, "JPEG")
    assert large["crop"] == {"x": 0, "y": 450, "side": 1_500}
    assert [warning["code"] for warning in large["warnings"]] == ["image_cropped"]
    assert (small["width"], small["height"], small["format"]) == (64, 48, "WebP")
    assert small["crop"] == {"x": 8, "y": 0, "side": 48}
    assert list(ObjectStore(settings.object_store).names("")) == []


def test_warnings_are_those_of_a_personalization(client: TestClient, picture: Image.Image) -> None:
    """Each warning is listed at its image; the later image of a pair has the warning about both."""
    photos = [
        file_of(picture),
        file_of(picture.rotate(180).filter(ImageFilter.GaussianBlur(12))),
        file_of(picture.rotate(90).point(lambda level: level // 8)),
        file_of(picture, "JPEG", quality=90),
        photo((128, 128)),
    ]
    listed = [image["warnings"] for image in _inspect(client, *photos)["images"]]
    codes = [[warning["code"] for warning in found] for found in listed]
    assert codes == [[], ["image_blurred"], ["image_underexposed"], ["images_similar"], ["image_uniform"]]
    assert {warning["field"] for found in listed for warning in found} == {"images"}
    validated = create(client, *photos, url="/v1/personalizations?validate_only=true").json()
    assert validated["warnings"] == [warning for found in listed for warning in found]


def test_errors_are_those_of_a_personalization(client: TestClient) -> None:
    """No image, too many images, a damaged file and another content type are refused by name."""
    url = "/v1/inspections"
    none = client.post(url, files=[("photos", ("a.png", photo(), "image/png"))])
    assert (none.status_code, none.json()["code"]) == (422, "image_count")
    assert "the part 'photos'" in none.json()["detail"]
    assert client.post(url, files=parts(*[photo()] * 17)).status_code == 422
    damaged = client.post(url, files=parts(photo(), b"text"))
    assert (damaged.status_code, damaged.json()["code"]) == (422, "invalid_image")
    assert "'photo1.png'" in damaged.json()["detail"]
    assert client.post(url, json={}).status_code == 415


def test_a_chosen_square_replaces_the_center_square(client: TestClient, settings: ServiceSettings) -> None:
    """An inspection judges the square, and a personalization stores nothing else of the photo."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    turned = file_of(halves(96, 200), exif=exif)
    square = {"x": 100, "y": 8, "side": 80}
    request = {"request": json.dumps({"crop": [square, None]})}
    answer = client.post("/v1/inspections", files=parts(turned, file_of(halves(160, 64))), data=request)
    cropped, whole = answer.json()["images"]
    assert (cropped["width"], cropped["height"], cropped["crop"]) == (200, 96, square)
    assert [warning["message"] for warning in cropped["warnings"]] == []
    assert whole["crop"] == {"x": 48, "y": 0, "side": 64}
    job = create(client, turned, crop=[square]).json()
    stored = Image.open(BytesIO(ObjectStore(settings.object_store).get(reference_name(job["id"], 0))))
    upright = halves(96, 200).transpose(Image.Transpose.ROTATE_270)
    assert stored.tobytes() == upright.crop((100, 8, 180, 88)).tobytes()


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ([None], "crop: got a list of 1; expected one square or null for each of the 2 images"),
        ([None, {"x": 60, "y": 0, "side": 40}], "crop: got x=60, y=0, side=40 for 'photo1.png'; expected"),
        ([None, {"x": -1, "y": 0, "side": 40}], "crop.1.x: got -1; expected"),
        ([None, {"x": 0, "y": 0}], "crop.1.side"),
    ],
)
def test_bad_crops_create_nothing(
    client: TestClient, settings: ServiceSettings, crop: Any, message: str
) -> None:
    """The error names the field; no image of the request stays stored."""
    photos = [file_of(halves()), file_of(halves(80, 64))]
    request = {"request": json.dumps({"crop": crop})}
    inspected = client.post("/v1/inspections", files=parts(*photos), data=request)
    for answer in (inspected, create(client, *photos, crop=crop)):
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["message"].startswith(message)
        assert error["field"].startswith("crop")
    assert client.get("/v1/personalizations").json()["data"] == []
    assert list(ObjectStore(settings.object_store).names("")) == []
