"""The service withholds images that the safety checker of their base model flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from tests.integration.support.photos import create
from tests.integration.support.workers import wait_for_job, worker
from tests.tooling.models import build_family
from tests.tooling.safety_checkers import FLAGS_ALL, FLAGS_NONE, add_safety_checker, set_threshold, similarity
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.safety import SafetyChecker
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
BODY = {"prompt": "a dog", "n": 4, "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return a folder of three models and the index of the one image of `BODY` that `some` flags.

    `all` flags every image, and `none` ships no checker.
    """
    folder = tmp_path_factory.mktemp("checked")
    add_safety_checker(build_family(folder / "all", "sd1"), FLAGS_ALL)
    add_safety_checker(build_family(folder / "some", "sd1"), FLAGS_NONE)
    build_family(folder / "none", "sd1")
    bundle = load_bundle(BaseModelEntry(name="some", path=folder / "some", precision="fp32"), device="cpu")
    checker = SafetyChecker(folder / "some", torch.device("cpu"))
    scores = [similarity(checker, one.image) for one in generate(bundle, GenerationSettings(**BODY))]
    second, first = sorted(scores)[-2:]
    set_threshold(folder / "some", (first + second) / 2)
    return folder, scores.index(first)


@pytest.fixture
def settings(settings: ServiceSettings, flagged: tuple[Path, int], tmp_path: Path) -> ServiceSettings:
    """Return settings with the safety checker on."""
    settings.data_dir.mkdir(exist_ok=True)
    catalog = tmp_path / "checked.toml"
    catalog.write_text(
        "".join(
            f'[[base_models]]\nname = "{name}"\npath = "{flagged[0] / name}"\nprecision = "fp32"\n'
            for name in ("some", "all", "none")
        )
    )
    changes = {"base_models": catalog, "safety_checker": True, "tick_s": 0.2, "device": "cpu"}
    return settings.model_copy(update={**changes, "preview_every": 2, "log_level": "INFO"})


def _draw(client: TestClient, base_model: str) -> dict[str, Any]:
    drawn = client.post(
        "/v1/generations", json=BODY | {"base_model": base_model}, headers={"Prefer": "wait=60"}
    )
    assert drawn.status_code == 200, drawn.text
    answer: dict[str, Any] = drawn.json()
    return answer


def test_flagged_images_and_previews_are_withheld(
    client: TestClient, settings: ServiceSettings, flagged: tuple[Path, int]
) -> None:
    """Some flagged: the job succeeds with the others. All flagged: it fails. A personalization goes on."""
    with worker(settings) as running:
        made = create(client, base_model="all", settings={"steps": 4, "n": 1, "fixed_rows": 2})
        some, every, none = (_draw(client, name) for name in ("some", "all", "none"))
        wait_for_job(settings, made.json()["id"], Status.SUCCEEDED, Status.FAILED)
        log = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
    seeds = [3, 4, 5, 6]
    hidden = seeds.pop(flagged[1])
    assert some["status"] == "succeeded"
    assert [image["seed"] for image in some["images"]] == seeds
    assert [(one["seed"], one["error"]["code"]) for one in some["withheld"]] == [(hidden, "content_filtered")]
    urls = [f"/v1/generations/{some['id']}/images/{k}.png" for k in range(4)]
    assert [client.get(url).status_code for url in urls] == [200, 200, 200, 404]
    assert (every["status"], every["images"], every["withheld"]) == ("failed", [], [])
    assert (every["error"]["code"], every["error"]["retryable"]) == ("content_filtered", False)
    assert client.get(f"/v1/generations/{every['id']}/images/0.png").status_code == 404
    assert (none["status"], len(none["images"]), none["withheld"]) == ("succeeded", 4, [])
    missing = [entry["base_model"] for entry in log if entry["event"] == "safety_checker_missing"]
    assert missing == ["none"]
    _assert_learned_without_previews(client, made.headers["Location"])


def _assert_learned_without_previews(client: TestClient, url: str) -> None:
    """Each preview is an event with the code, and no image."""
    assert client.get(url).json()["status"] == "succeeded"
    stream = client.get(f"{url}/events").text
    assert "event: preview\n" not in stream
    assert 'event: preview_withheld\ndata: {"step": 4, "code": "content_filtered"}' in stream
    assert client.get(f"{url}/previews/4.png").status_code == 404


def test_the_catalog_says_which_models_are_checked(client: TestClient) -> None:
    """A client sees which models withhold images, and which are not checked although the setting is on."""
    found = client.get("/v1/base-models").json()["data"]
    states = {model["id"]: model["safety_checker"] for model in found}
    assert {name: states[name] for name in ("some", "all", "none")} == {
        "some": "on",
        "all": "on",
        "none": "missing",
    }
