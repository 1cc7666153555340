"""HTTP API of generations and concepts, on both databases."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.numpy import load, save

from tests.integration.support.concepts import tiny_concept
from tests.integration.support.jobs import NOW
from tests.integration.support.photos import photo
from zoodip_core.service.database import Database
from zoodip_core.service.jobs import leases, store
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.object_store import ObjectStore, image_name
from zoodip_core.service.settings import ServiceSettings


def _import(client: TestClient, content: bytes, name: str = "x.safetensors", **fields: str) -> Any:
    return client.post("/v1/concepts", files={"file": (name, content)}, data=fields)


def _request_of(settings: ServiceSettings, job_id: str) -> dict[str, Any]:
    database = Database(settings.database)
    with database.read() as connection:
        job = store.find(connection, job_id)
    database.close()
    return job.request


def test_concept_is_imported_and_exported_in_three_formats(
    client: TestClient, settings: ServiceSettings, catalog: Path
) -> None:
    """Import, list, export and delete. Each exported file contains the key that its program reads."""
    created = _import(client, tiny_concept(catalog))
    assert created.status_code == 201
    concept = created.json()
    assert concept.pop("warnings") == []
    assert (concept["token"], concept["vectors"], concept["base_model"]) == ("<my-dog>", 2, "tiny")
    assert client.get(created.headers["Location"]).json() == concept
    assert client.get("/v1/concepts").json()["data"] == [concept]
    keys = {}
    for form in ("diffusers", "a1111", "comfyui"):
        file = client.get(f"{created.headers['Location']}/embedding?format={form}")
        assert "my-dog.safetensors" in file.headers["Content-Disposition"]
        keys[form] = list(load(file.content))
    assert keys == {"diffusers": ["<my-dog>"], "a1111": ["emb_params"], "comfyui": ["emb_params"]}
    assert client.delete(created.headers["Location"]).status_code == 204
    assert client.get(created.headers["Location"]).status_code == 404
    assert ObjectStore(settings.object_store).names("") == []


def test_invalid_imports_are_refused(client: TestClient, settings: ServiceSettings, catalog: Path) -> None:
    """Each invalid import gets its code and field, and stores no object."""
    tiny = tiny_concept(catalog)
    wide = save({"emb_params": np.zeros((1, 768), np.float32)})
    for content, fields, code, field in (
        (b"\x80\x04\x95", {}, "invalid_artifact", "file"),
        (wide, {"token": "<a>"}, "model_mismatch", "file"),
        (wide, {"name": "blob"}, "invalid_token", "token"),
        (tiny, {"token": "<My-Dog>"}, "invalid_token", "token"),
        (tiny, {"base_model": "other"}, "model_mismatch", "file"),
        (tiny, {"base_model": "nope"}, "unknown_base_model", "base_model"),
        (tiny, {"replace": "perhaps"}, "invalid_input", "replace"),
        (tiny, {"allow_model_mismatch": "1"}, "invalid_input", "allow_model_mismatch"),
        (wide, {"token": "<a>", "allow_model_mismatch": "true"}, "model_mismatch", "file"),
    ):
        answer = _import(client, content, **fields)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert answer.json()["errors"][0]["field"] == field
    assert ObjectStore(settings.object_store).names("") == []
    assert client.get("/v1/concepts").json()["data"] == []
    assert _import(client, tiny).status_code == 201
    taken = _import(client, tiny)
    assert (taken.status_code, taken.json()["code"]) == (409, "token_taken")
    assert _import(client, tiny, replace="true").status_code == 201
    assert len(client.get("/v1/concepts").json()["data"]) == 1


def test_a_concept_of_a_fine_tune_is_imported_on_request(client: TestClient, catalog: Path) -> None:
    """With `allow_model_mismatch`, a concept of other weights of the same width is stored, with a warning."""
    imported = _import(client, tiny_concept(catalog), base_model="other", allow_model_mismatch="true")
    assert imported.status_code == 201, imported.text
    (warning,) = imported.json()["warnings"]
    assert (warning["code"], warning["field"]) == ("model_mismatch", "concept")
    assert warning["message"].startswith("<my-dog> was learned on tiny (")
    assert imported.json()["base_model"] == "other"
    plain = _import(client, tiny_concept(catalog), base_model="tiny", allow_model_mismatch="true")
    assert plain.json()["warnings"] == []


@pytest.mark.parametrize(
    ("key", "name", "token"),
    [
        ("<Cat-Toy>", "x.safetensors", "<cat-toy>"),
        ("Cat Toy", "x.safetensors", "<cat-toy>"),
        ("emb_params", "My Dog.safetensors", "<my-dog>"),
        ("emb_params", "C:\\files\\Style_v1.2.safetensors", "<style_v1-2>"),
    ],
)
def test_token_of_an_import_comes_from_the_file(
    client: TestClient, catalog: Path, key: str, name: str, token: str
) -> None:
    """Without a `token` field, the key gives it in its normal spelling, with a warning, or else the file's name."""
    (vectors,) = load(tiny_concept(catalog)).values()
    created = _import(client, save({key: vectors}), name)
    assert (created.status_code, created.json()["token"]) == (201, token)
    codes = [warning["code"] for warning in created.json()["warnings"]]
    assert codes == ([] if key == "emb_params" else ["spelling_corrected"])


def test_generation_is_queued_with_its_concepts(client: TestClient, catalog: Path) -> None:
    """A valid request gets 202 and a job. A token that the caller does not have is refused."""
    unknown = client.post("/v1/generations", json={"prompt": "a <my-dog> on a beach"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_token")
    assert unknown.json()["errors"][0]["field"] == "prompt"
    _import(client, tiny_concept(catalog))
    created = client.post(
        "/v1/generations",
        json={"prompt": "a <my-dog> on a beach", "n": 2, "size": "64x64"},
        headers={"Prefer": "wait=0"},
    )
    assert created.status_code == 202
    assert created.json()["status"] == "queued"
    assert created.json()["total_steps"] == 3
    url = created.headers["Location"]
    assert client.get(url).json()["images"] == []
    assert client.get(f"{url}/images/0.png").status_code == 404
    assert client.post(f"{url}/cancel").json()["status"] == "cancelled"
    assert client.delete(url).status_code == 204
    assert client.get("/v1/generations").json()["data"] == []


def test_concept_of_another_base_model_is_unknown(client: TestClient, catalog: Path) -> None:
    """A token learned on `tiny` is refused on `other`, although the vectors have the same width."""
    assert _import(client, tiny_concept(catalog)).status_code == 201
    body = {"prompt": "a <my-dog>", "base_model": "other"}
    refused = client.post("/v1/generations", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_token")
    assert refused.json()["errors"][0]["field"] == "prompt"
    assert refused.json()["detail"] == "prompt: got <my-dog>; expected a token of your concepts on other"
    assert client.get("/v1/generations").json()["data"] == []


@pytest.mark.parametrize("size", ["8x8", "1024x16", "64x64", "72x200"])
def test_sizes_of_the_command_are_accepted(client: TestClient, size: str) -> None:
    """Every side from 8 to 4,096 px that is a multiple of the latent cell is allowed."""
    assert client.post("/v1/generations", json={"prompt": "a dog", "size": size}).status_code == 202


def test_size_error_gives_the_rule(client: TestClient) -> None:
    """The message has the range, the multiple and the size of the base model."""
    refused = client.post("/v1/generations", json={"prompt": "a dog", "size": "8x4"})
    assert refused.json()["detail"] == (
        "size: got '8x4'; expected WIDTHxHEIGHT, such as 64x64: each side from 8 to 4096 px and a multiple of 8"
    )


@pytest.mark.parametrize(
    "spelling", ["<My-Dog>", "< my-dog >", "<my-dog", "my-dog>", "&lt;my-dog&gt;", "<My Dog>", "my-dog"]
)
def test_tokens_in_other_spellings_are_read(
    client: TestClient, settings: ServiceSettings, catalog: Path, spelling: str
) -> None:
    """The job draws the token. The first response and later ones have the prompt as it is read, and a warning.

    `my` is not in the vocabulary, so that `my-dog` can only mean the token.
    """
    concept = _import(client, tiny_concept(catalog)).json()
    body = {"prompt": f"a {spelling} in the snow", "negative_prompt": "a <MY-DOG>"}
    created = client.post("/v1/generations", json=body)
    assert created.status_code == 202
    assert created.json()["prompt"] == "a <my-dog> in the snow"
    warnings = created.json()["warnings"]
    assert [(warning["code"], warning["field"]) for warning in warnings] == [
        ("spelling_corrected", "prompt"),
        ("spelling_corrected", "negative_prompt"),
    ]
    assert warnings[0]["message"] == f"{spelling!r} is read as the token <my-dog>"
    assert client.get(created.headers["Location"]).json()["warnings"] == warnings
    request = _request_of(settings, created.json()["id"])
    assert request["settings"]["negative_prompt"] == "a <my-dog>"
    assert request["concepts"] == {"<my-dog>": concept["id"]}


def test_an_ordinary_word_is_no_token(client: TestClient, settings: ServiceSettings, catalog: Path) -> None:
    """`dog` stays a word although a concept <dog> exists; the warning says how to write the token."""
    _import(client, tiny_concept(catalog), token="<dog>")
    _import(client, tiny_concept(catalog), token="<cat>")
    created = client.post("/v1/generations", json={"prompt": "a dog by a <cat>"})
    (warning,) = created.json()["warnings"]
    assert (warning["code"], warning["field"]) == ("concept_unused", "prompt")
    assert "write <dog>" in warning["message"]
    assert list(_request_of(settings, created.json()["id"])["concepts"]) == ["<cat>"]


@pytest.mark.parametrize(
    ("fields", "field", "got"),
    [
        ({"prompt": "a <my-dgo>"}, "prompt", "<my-dgo>"),
        ({"prompt": "a <My-Dgo in the snow"}, "prompt", "<My-Dgo"),
        ({"prompt": "a &lt;my_dog&gt;"}, "prompt", "&lt;my_dog&gt;"),
        ({"prompt": "a dog", "negative_prompt": "a < My-Dgo >"}, "negative_prompt", "< My-Dgo >"),
    ],
)
def test_unknown_tokens_name_similar_ones(
    client: TestClient, catalog: Path, fields: dict[str, str], field: str, got: str
) -> None:
    """Text that looks like a token and is none is refused, and the message names similar tokens of the caller."""
    _import(client, tiny_concept(catalog))
    refused = client.post("/v1/generations", json=fields)
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_token")
    assert refused.json()["errors"][0]["field"] == field
    assert refused.json()["detail"] == (
        f"{field}: got {got}; expected a token of your concepts on tiny; did you mean <my-dog>?"
    )
    assert client.get("/v1/generations").json()["data"] == []


def test_prompts_that_do_not_fit_the_window(client: TestClient, catalog: Path) -> None:
    """Truncated: a learned token beyond the window is refused, other text named. In chunks, both are read."""
    _import(client, tiny_concept(catalog))
    long = "in the snow " * 30
    for fields in ({"prompt": f"{long}<my-dog>"}, {"prompt": "a dog", "negative_prompt": f"{long}<my-dog>"}):
        assert client.post("/v1/generations", json=fields).json()["warnings"] == []
        refused = client.post("/v1/generations", json=fields | {"long_prompts": "truncate"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_caption")
        assert refused.json()["errors"][0]["field"] == list(fields)[-1]
    weighted = {"prompt_syntax": "weighted", "long_prompts": "truncate"}
    created = client.post("/v1/generations", json=weighted | {"prompt": f"a (<my-dog>:1.2) {long}at night"})
    (warning,) = created.json()["warnings"]
    assert (warning["code"], warning["field"]) == ("prompt_truncated", "prompt")
    assert "at night'" in warning["message"]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"prompt": ""}, "invalid_request", "prompt"),
        ({"n": 0}, "invalid_request", "n"),
        ({"size": "64"}, "invalid_settings", "size"),
        ({"size": "65x64"}, "invalid_settings", "size"),
        ({"size": "4x8"}, "invalid_settings", "size"),
        ({"size": "4104x8"}, "invalid_settings", "size"),
        ({"scheduler": "magic"}, "unknown_scheduler", "scheduler"),
        ({"base_model": "nope"}, "unknown_base_model", "base_model"),
        ({"seeed": 1}, "invalid_request", "seeed"),
    ],
)
def test_invalid_generation_names_the_field(
    client: TestClient, fields: dict[str, object], code: str, field: str
) -> None:
    """The response is 422 with the error code and the field."""
    answer = client.post("/v1/generations", json={"prompt": "a dog", **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["field"] == field


def test_prefer_wait_returns_images(client: TestClient, settings: ServiceSettings) -> None:
    """A generation that ends within the wait gets 200 with the URLs of its images."""
    created = client.post(
        "/v1/generations", json={"prompt": "a dog", "seed": 7}, headers={"Idempotency-Key": "k"}
    )
    job_id = created.json()["id"]
    ObjectStore(settings.object_store).put(image_name(job_id, 0), photo())
    database = Database(settings.database)
    with database.write() as connection:
        job = leases.claim(connection, job_id, "w", NOW, 30.0)
        assert job is not None
        leases.finish(connection, leases.lease_of(job), Status.SUCCEEDED, NOW, {"result": {"seeds": [7]}})
    database.close()
    ready = client.post(
        "/v1/generations",
        json={"prompt": "a dog", "seed": 7},
        headers={"Idempotency-Key": "k", "Prefer": "respond-async, wait=5"},
    )
    assert ready.status_code == 200
    assert ready.headers["Preference-Applied"] == "wait=5"
    (image,) = ready.json()["images"]
    assert image == {"url": f"/v1/generations/{job_id}/images/0.png", "seed": 7, "prompt": "a dog"}
    assert Image.open(BytesIO(client.get(image["url"]).content)).size == (96, 80)


def test_large_json_body_is_refused(client: TestClient) -> None:
    """A JSON body of 1 MB gets 413."""
    answer = client.post("/v1/generations", content=b'{"prompt": "' + b"a" * 1_000_000 + b'"}')
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field", "limit"),
    [
        ({"size": "4096x4096"}, "size", "at most 16384 pixels, 4 times those of 64x64"),
        ({"size": "16x2048"}, "size", "at most 16384 pixels"),
        ({"n": 64, "steps": 1000}, "n", "at most 20000 steps of a 64x64 image in total"),
    ],
)
def test_generation_beyond_the_limits_creates_nothing(
    client: TestClient, body: dict[str, object], field: str, limit: str
) -> None:
    """Work that would hold a worker for hours answers 422 with the field and the limit."""
    refused = client.post("/v1/generations", json={"prompt": "a dog", **body})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_settings")
    (error,) = refused.json()["errors"]
    assert error["field"] == field
    assert limit in error["message"]
    assert client.get("/v1/generations").json()["data"] == []
