"""Clients of other APIs against a running service: one API process and one worker with a tiny base model."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx2
import openai
import pytest
from PIL import Image

from tests.integration.support.apis import api
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.workers import worker
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> ServiceSettings:
    """Settings of the service that all tests of this file share."""
    folder = tmp_path_factory.mktemp("facades")
    return ServiceSettings(data_dir=folder, base_models=catalog, tick_s=0.2, log_level="ERROR")


@pytest.fixture(scope="module")
def key(settings: ServiceSettings) -> str:
    """Secret of an API key, so that the service requires one."""
    database = Database(settings.database)
    database.migrate()
    database.close()
    return make_key(settings, owner="alice", scopes=("read", "write"))["Authorization"].removeprefix(
        "Bearer "
    )


@pytest.fixture(scope="module")
def url(settings: ServiceSettings, key: str, catalog: Path) -> Iterator[str]:
    """URL of the service, in which alice has the concept `<my-dog>`."""
    with api(settings, settings.data_dir / "api.log") as url, worker(settings):
        headers = {"Authorization": f"Bearer {key}"}
        files = {"file": ("x.safetensors", tiny_concept(catalog))}
        assert httpx2.post(f"{url}/v1/concepts", files=files, headers=headers).status_code == 201
        yield url


def _decoded(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(BytesIO(base64.b64decode(text)))


def test_openai_draws_a_concept_in_each_format(url: str, key: str) -> None:
    """The official client gets images of the requested number, size and format for a token, an id and an alias."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    concept = client.models.retrieve("my-dog")
    drawn = client.images.generate(model="<my-dog>", prompt="a my-dog on a beach", n=2, size="64x32")
    assert [_decoded(image.b64_json).size for image in drawn.data or []] == [(64, 32)] * 2
    assert (drawn.size, drawn.output_format, drawn.background) == ("64x32", "png", "opaque")
    assert {image.revised_prompt for image in drawn.data or []} == {"a <my-dog> on a beach"}
    first, second = (client.images.generate(prompt="a photo of a dog").data or [] for _ in range(2))
    assert first[0].b64_json != second[0].b64_json  # another seed
    identified = client.images.generate(
        model=concept.to_dict()["concept_id"],  # type: ignore[arg-type]
        prompt="a photo",
        output_format="webp",
        output_compression=60,
    )
    (image,) = identified.data or []
    assert _decoded(image.b64_json).format == "WEBP"
    assert image.revised_prompt == "<my-dog>, a photo"
    jpeg = client.images.generate(model="gpt-image-1", prompt="a photo of a dog", output_format="jpeg")
    assert _decoded((jpeg.data or [])[0].b64_json).format == "JPEG"


def test_openai_returns_urls_on_request(url: str, key: str) -> None:
    """DALL·E's default and `response_format="url"` give URLs of this service, which need the key."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    drawn = client.images.generate(model="dall-e-3", prompt="a photo of a dog", response_format="url")
    (image,) = drawn.data or []
    assert image.url is not None
    assert image.url.startswith(f"{url}/v1/generations/")
    assert httpx2.get(image.url).status_code == 401
    file = httpx2.get(image.url, headers={"Authorization": f"Bearer {key}"})
    assert Image.open(BytesIO(file.content)).format == "PNG"


def test_openai_streams_images(url: str, key: str) -> None:
    """A stream ends with one completed event for each image, with the members that the client requires."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    stream = client.images.generate(prompt="a photo of a dog", stream=True, partial_images=2, n=2)
    events = [event for event in stream if event.type == "image_generation.completed"]
    assert [_decoded(event.b64_json).size for event in events] == [(64, 64)] * 2
    assert {(event.size, event.usage.total_tokens) for event in events} == {("64x64", 0)}
