"""Clients of other APIs against a running service: one API process and one worker with a tiny base model."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import httpx2
import openai
import pytest
import replicate
import webuiapi
from PIL import Image

from tests.integration.support.apis import api
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.keys import make_key
from tests.integration.support.photos import photo
from tests.integration.support.processes import wait_until
from tests.integration.support.workers import worker
from tests.tooling.archives import zip_of
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


@pytest.fixture
def client(url: str, key: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client of the service."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        yield client


def _decoded(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(BytesIO(base64.b64decode(text)))


def test_openai_draws_a_concept_in_each_format(client: openai.OpenAI) -> None:
    """The official client gets images of the requested number, size and format for a token, an id and an alias."""
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


def test_openai_returns_urls_on_request(client: openai.OpenAI, url: str, key: str) -> None:
    """DALL·E's default and `response_format="url"` give URLs of this service, which need the key."""
    drawn = client.images.generate(model="dall-e-3", prompt="a photo of a dog", response_format="url")
    (image,) = drawn.data or []
    assert image.url is not None
    assert image.url.startswith(f"{url}/v1/generations/")
    assert httpx2.get(image.url).status_code == 401
    file = httpx2.get(image.url, headers={"Authorization": f"Bearer {key}"})
    assert Image.open(BytesIO(file.content)).format == "PNG"


def test_openai_streams_images(client: openai.OpenAI) -> None:
    """A stream has the partial images in order, and ends with one completed event for each image."""
    stream = list(client.images.generate(prompt="a photo of a dog", stream=True, partial_images=2, n=2))
    partials = [event for event in stream if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in partials] == [0, 1]
    assert [_decoded(event.b64_json).size for event in partials] == [(64, 64)] * 2
    events = [event for event in stream[2:] if event.type == "image_generation.completed"]
    assert [_decoded(event.b64_json).size for event in events] == [(64, 64)] * 2
    assert {(event.size, event.usage.total_tokens) for event in events} == {("64x64", 0)}


def test_openai_learns_and_draws_a_concept(client: openai.OpenAI) -> None:
    """The official client uploads a ZIP file, learns a concept and draws it."""
    zipped = zip_of(
        ("a.png", photo()), ("a.txt", b"a photo of <zip-dog>"), ("b.png", photo()), ("b.txt", b"<zip-dog>")
    )
    file = client.files.create(file=("dog.zip", zipped), purpose="fine-tune")
    assert client.files.wait_for_processing(file.id).bytes == len(zipped)
    assert [found.id for found in client.files.list()] == [file.id]
    assert client.files.content(file.id).read() == zipped
    jobs = client.fine_tuning.jobs
    job = jobs.create(
        model="tiny",
        training_file=file.id,
        suffix="zip-dog",
        seed=3,
        metadata={"initializer": "dog", "team": "red"},
        hyperparameters={"n_epochs": 3},
    )
    assert (job.seed, job.training_file, job.model) == (3, file.id, "tiny")
    assert job.to_dict()["warnings"][0]["field"] == "hyperparameters.n_epochs"  # type: ignore[index]
    wait_until(lambda: jobs.retrieve(job.id).status == "succeeded", "the end of the job")
    done = jobs.retrieve(job.id)
    assert [listed.id for listed in jobs.list(extra_query={"metadata[team]": "red"})] == [job.id]
    events = [event for event in jobs.list_events(job.id, limit=2)]  # noqa: C416 (the client follows the pages)
    assert (events[0].message, events[-1].message) == ("The job is succeeded.", "The job is queued.")
    assert all(checkpoint.step_number % 10 == 0 for checkpoint in jobs.checkpoints.list(job.id))
    assert done.fine_tuned_model is not None
    drawn = client.images.generate(model=done.fine_tuned_model, prompt="a photo")
    assert (drawn.data or [])[0].revised_prompt == "<zip-dog>, a photo"
    assert jobs.cancel(job.id).status == "succeeded"  # an ended job does not change
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_webuiapi_drives_the_a1111_facade(url: str, key: str) -> None:
    """Every call of `webuiapi` about drawing works with Basic authentication; a bare name draws the concept."""
    address = httpx2.URL(url)
    client = webuiapi.WebUIApi(host=address.host, port=address.port or 80)
    with closing(client.session):
        _drive(client, key)
        client.set_auth("any", "wrong")
        with pytest.raises(RuntimeError, match="401"):
            client.txt2img(prompt="a dog")


def _drive(client: webuiapi.WebUIApi, key: str) -> None:
    client.set_auth("any", key)
    assert client.util_get_model_names() == ["emoji", "other", "tiny"]
    client.util_set_model("tiny")
    assert client.util_get_current_model() == "tiny"
    client.util_wait_for_ready(check_interval=0.1)
    assert client.get_embeddings()["loaded"]["my-dog"]["vectors"] == 2
    assert "Euler a" in client.util_get_sampler_names()
    assert client.util_get_scheduler_names() == ["automatic", "karras"]
    assert client.get_upscalers()[0]["name"] == "None"
    for listed in (
        client.get_sd_vae,
        client.get_latent_upscale_modes,
        client.get_loras,
        client.get_hypernetworks,
    ):
        assert listed() == []
    assert client.get_cmd_flags()["api"] is True
    assert client.get_scripts() == {"txt2img": [], "img2img": []}
    assert set(client.get_memory()) == {"ram", "cuda"}
    assert client.interrupt() == {}
    drawn = client.txt2img(
        prompt="a my-dog on a beach", batch_size=2, seed=7, steps=2, cfg_scale=2, width=64, height=32
    )
    assert [image.size for image in drawn.images] == [(64, 32)] * 2
    assert drawn.info["all_seeds"] == [7, 8]
    assert drawn.info["infotexts"][0].startswith(
        "a <my-dog> on a beach\nSteps: 2, Sampler: Euler a, CFG scale: 2.0"
    )
    described = client.png_info(drawn.image).info
    assert described.startswith("a <my-dog> on a beach\nSeed: 7, Model hash: ")


def _basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()}


def test_sillytavern_connects_switches_and_draws(url: str, key: str) -> None:
    """The requests of SillyTavern's A1111 source, in its order.

    Source: SillyTavern, src/endpoints/stable-diffusion.js and public/scripts/extensions/stable-diffusion/index.js
    """
    with httpx2.Client(base_url=f"{url}/sdapi/v1", headers=_basic(key)) as client:
        assert isinstance(client.get("/options").json()["sd_model_checkpoint"], str)
        for path, member in (("/samplers", "name"), ("/schedulers", "name"), ("/sd-models", "title")):
            assert all(isinstance(item[member], str) for item in client.get(path).json())
        for path in ("/upscalers", "/latent-upscale-modes", "/sd-vae", "/sd-modules"):
            assert isinstance(client.get(path).json(), list)
        assert client.post("/options", json={"sd_model_checkpoint": "tiny"}).is_success
        state = client.get("/progress").json()
        assert (state["progress"], state["state"]["job_count"]) == (0, 0)
        assert client.get("/options").json()["sd_model_checkpoint"] == "tiny"
        body = {
            "url": url,
            "auth": f"user:{key}",
            "prompt": "a my-dog",
            "negative_prompt": "blurry",
            "sampler_name": "Euler a",
            "scheduler": "automatic",
            "steps": 2,
            "cfg_scale": 7,
            "width": 512,
            "height": 512,
            "restore_faces": False,
            "enable_hr": False,
            "hr_upscaler": "Latent",
            "hr_scale": 2,
            "hr_additional_modules": [],
            "denoising_strength": 0.7,
            "hr_second_pass_steps": 0,
            "override_settings": {"CLIP_stop_at_last_layers": 1},
            "override_settings_restore_afterwards": True,
            "clip_skip": 1,
            "save_images": True,
            "send_images": True,
            "do_not_save_grid": False,
            "do_not_save_samples": False,
        }
        drawn = client.post("/txt2img", json=body, timeout=60).json()
    assert _decoded(drawn["images"][0]).size == (64, 64)
    assert [warning["field"] for warning in drawn["warnings"]] == ["size", "url", "auth"]


def test_open_webui_draws_with_both_engines(url: str, key: str) -> None:
    """The requests of Open WebUI's engines `openai` and `automatic1111`.

    Source: Open WebUI, backend/open_webui/routers/images.py
    """
    headers = {"Authorization": f"Bearer {key}"}
    body = {
        "model": "dall-e-2",
        "prompt": "a my-dog",
        "n": 1,
        "size": "512x512",
        "response_format": "b64_json",
    }
    answer = httpx2.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=60).json()
    assert [list(_decoded(image["b64_json"]).size) for image in answer["data"]] == [[64, 64]]
    with httpx2.Client(base_url=f"{url}/sdapi/v1", headers=_basic(key), timeout=60) as client:
        options = client.get("/options").json()
        (model,) = [model for model in client.get("/sd-models").json() if model["model_name"] == "tiny"]
        changed = client.post("/options", json={**options, "sd_model_checkpoint": model["title"]})
        assert changed.json() == {"warnings": []}
        form = {"prompt": "a my-dog", "batch_size": 2, "width": 512, "height": 512, "steps": 2}
        drawn = client.post("/txt2img", json={**form, "negative_prompt": "blurry"}).json()
    assert len(drawn["images"]) == 2
    assert "info" in drawn


def test_librechat_draws_with_both_tools(url: str, key: str) -> None:
    """The requests of LibreChat's image tool, which has built-in values, and of its Stable Diffusion tool.

    Source: LibreChat, api/app/clients/tools/structured/{OpenAIImageTools,StableDiffusion}.js
    """
    body = {
        "model": "gpt-image-1",
        "prompt": "a my-dog",
        "n": 1,
        "background": "auto",
        "output_format": "png",
        "quality": "auto",
        "size": "auto",
    }
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx2.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=60).json()
    assert _decoded(answer["data"][0]["b64_json"]).size == (64, 64)
    payload = {
        "prompt": "a photo of a dog",
        "negative_prompt": "blurry",
        "cfg_scale": 4.5,
        "steps": 22,
        "width": 1024,
        "height": 1024,
    }
    drawn = httpx2.post(f"{url}/sdapi/v1/txt2img", json=payload, headers=_basic(key), timeout=60).json()
    info = json.loads(drawn["info"])
    assert (info["width"], info["height"]) == _decoded(drawn["images"][0].partition(",")[0]).size
    assert info["infotexts"][0].splitlines()[-1].startswith("Steps: 22, ")
    assert isinstance(info["seed"], int)


def test_replicate_learns_and_draws(url: str, key: str) -> None:
    """The official client uploads images, trains, waits for a prediction, lists, and cancels."""
    client = replicate.Client(api_token=key, base_url=f"{url}/replicate")
    with closing(client._client):
        _train_and_draw(client)


def _train_and_draw(client: replicate.Client) -> None:
    uploaded = client.files.create(BytesIO(zip_of(("a.png", photo()))), filename="dog.zip")
    assert client.files.get(uploaded.id).size == uploaded.size
    training = client.trainings.create(
        model="zoodip/tiny",
        version="latest",
        input={"input_images": uploaded.urls["get"], "initializer": "dog", "lora_rank": 4},
        destination="alice/rep-dog",
    )
    assert (training.destination, training.input) == (
        "alice/rep-dog",
        {"initializer": "dog", "token": "<rep-dog>", "kind": "object"},
    )
    assert "input.lora_rank has no effect" in (training.logs or "")
    wait_until(lambda: client.trainings.get(training.id).status == "succeeded", "the end of the training")
    version = client.trainings.get(training.id).output["version"].partition(":")[2]
    images = client.run(
        "zoodip/rep-dog", input={"prompt": "a photo", "num_outputs": 2, "width": 64, "height": 32}
    )
    assert [Image.open(BytesIO(image.read())).size for image in images] == [(64, 32)] * 2
    prediction = client.predictions.create(
        version=version, input={"prompt": "a photo", "scheduler": "K_EULER"}
    )
    prediction.wait()
    assert (prediction.status, prediction.progress.percentage) == ("succeeded", 1.0)
    assert prediction.input["prompt"] == "<rep-dog>, a photo"
    assert client.predictions.list()[0].id == prediction.id
    assert client.trainings.list()[0].id == training.id
    assert client.predictions.cancel(prediction.id).status == "succeeded"  # an ended one does not change
    assert client.files.delete(uploaded.id)
    with pytest.raises(replicate.exceptions.ReplicateError, match="model 'nope' does not exist"):
        client.run("zoodip/nope", input={"prompt": "a dog"})
