"""`masked_loss` in the service: stored opacity, warnings, refused images, and the worker's weights."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.integration.support.jobs import claimed
from tests.integration.support.photos import create, parts, photo
from tests.tooling.pictures import file_of, halves
from worker.diffusion_engine import DiffusionEngine
from worker.diffusion_jobs import DiffusionSearch
from zoodip_core.images import decode_image_file, encode_png, without_opacity
from zoodip_core.service.database import Database
from zoodip_core.service.object_store import ObjectStore, reference_name
from zoodip_core.service.settings import ServiceSettings

MASKED = {"settings": {"masked_loss": True}}


@pytest.fixture(scope="module")
def cutout() -> bytes:
    """A PNG file with a transparent left quarter and a half-transparent right half."""
    image = halves(64, 64).convert("RGBA")
    opacity = Image.new("L", image.size, 255)
    opacity.paste(0, (0, 0, 16, 64))
    opacity.paste(128, (32, 0, 64, 64))
    image.putalpha(opacity)
    return file_of(image)


@pytest.fixture
def database_url(tmp_path: Any) -> str:
    """Return a SQLite database: nothing here depends on the database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _codes(body: Any) -> list[str]:
    return [warning["code"] for warning in body["warnings"]]


def test_the_opacity_is_stored_only_for_a_masked_loss(
    client: TestClient, settings: ServiceSettings, cutout: bytes
) -> None:
    """Without it, the stored file is the flattened image and a warning names the transparency."""
    image, _ = decode_image_file(cutout, name="a")
    objects = ObjectStore(settings.object_store)
    for changes, expected, codes in (
        ({}, encode_png(without_opacity(image)), ["image_transparent"]),
        (MASKED, encode_png(image), []),
    ):
        job = create(client, cutout, replace=True, **changes).json()
        assert objects.get(reference_name(job["id"], 0)) == expected
        assert job["settings"]["masked_loss"] is (changes == MASKED)
        assert _codes(job) == codes
    inspected = client.post("/v1/inspections", files=parts(cutout)).json()["images"]
    assert [_codes(image) for image in inspected] == [["image_transparent"]]


def test_the_worker_weighs_the_loss_by_the_stored_opacity(
    client: TestClient, settings: ServiceSettings, database: Database, cutout: bytes
) -> None:
    """Colors and weights are those of the upload: the stored image is not flattened again."""
    job = claimed(database, create(client, cutout, photo(), **MASKED).json()["id"], now=time.time())
    objects = ObjectStore(settings.object_store)
    stored = [objects.get(reference_name(job.id, index)) for index in range(2)]
    search = DiffusionEngine(settings.model_copy(update={"device": "cpu"})).begin(job, stored, None)
    assert isinstance(search, DiffusionSearch)
    references = search.personalization.references
    assert references.weights is not None
    row = [0, 0, 255, 255, 128, 128, 128, 128]
    assert references.weights[0, 0, 0].tolist() == pytest.approx([8 * level / sum(row) for level in row])
    assert references.weights[1].unique().tolist() == [1]
    plain = claimed(database, create(client, cutout, photo(), token="<flat>").json()["id"], now=time.time())
    flat = [objects.get(reference_name(plain.id, index)) for index in range(2)]
    same = DiffusionEngine(settings.model_copy(update={"device": "cpu"})).begin(plain, flat, None)
    assert isinstance(same, DiffusionSearch)
    assert same.personalization.references.weights is None
    assert same.personalization.references.posteriors.mean.equal(references.posteriors.mean)


def test_a_mask_without_effect_is_a_warning(client: TestClient) -> None:
    """`validate_only` and the creation say that no image is transparent."""
    for url in ("/v1/personalizations?validate_only=true", "/v1/personalizations"):
        body = create(client, file_of(halves(64, 64)), url=url, **MASKED).json()
        (found,) = body["warnings"]
        assert (found["code"], found["field"]) == ("no_mask", "settings.masked_loss")


def test_an_invisible_image_is_refused(client: TestClient, settings: ServiceSettings, cutout: bytes) -> None:
    """The error names the file, and nothing is stored; without the setting it is only a warning."""
    clear = file_of(Image.new("RGBA", (64, 64), (9, 9, 9, 0)))
    response = create(client, cutout, clear, **MASKED)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_image")
    assert response.json()["detail"] == (
        "images: got 'photo1.png' (fully transparent in the part that is used); "
        "expected a visible subject, because masked_loss is on"
    )
    assert list(ObjectStore(settings.object_store).names("")) == []
    assert _codes(create(client, clear).json()) == ["image_uniform", "image_transparent"]


def test_a_wrong_value_is_refused(client: TestClient) -> None:
    """The error names the setting."""
    response = create(client, settings={"masked_loss": "maybe"})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("settings.masked_loss: got 'maybe'; expected")
