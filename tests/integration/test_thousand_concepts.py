"""An owner with 1,000 concepts can use each of them in a prompt, on the embedded model."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.integration.support.workers import worker
from zoodip_core.artifact import Concept, export_concept
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.families import embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.service.settings import ServiceSettings

NUMBER = 1000


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    """Default settings: SQLite, objects in a folder, the embedded model."""
    (tmp_path / "data").mkdir()
    return ServiceSettings(data_dir=tmp_path / "data", device="cpu", tick_s=0.1, log_level="ERROR")


@pytest.fixture
def thousand(client: TestClient) -> dict[str, str]:
    """Ids of 1,000 imported concepts by token. Random vectors make their images differ."""
    folder = Catalog.load().default.path
    assert folder is not None
    (width,) = embedding_widths(folder)
    model, random, ids = fingerprint(folder), np.random.default_rng(0), {}
    for number in range(NUMBER):
        vectors = random.standard_normal((1, width)).astype(np.float32)
        concept = Concept(f"<c{number}>", "sd1", {"clip": vectors}, fingerprint=model)
        imported = client.post(
            "/v1/concepts", files={"file": ("c.safetensors", export_concept(concept, "diffusers"))}
        )
        assert imported.status_code == 201, imported.text
        ids[concept.token] = imported.json()["id"]
    return ids


def _draw(client: TestClient, *tokens: str) -> tuple[dict[str, str], bytes]:
    """Draw an image with these tokens; return the concepts that it used and its pixels."""
    body = {"prompt": f"a photo of {' '.join(tokens)}", "steps": 1, "seed": 3, "guidance_scale": 1}
    drawn = client.post("/v1/generations", json=body, headers={"Prefer": "wait=100"})
    assert drawn.status_code == 200, drawn.text
    assert drawn.json()["status"] == "succeeded", drawn.text
    picture = client.get(drawn.json()["images"][0]["url"]).content
    return drawn.json()["result"]["concepts"], Image.open(BytesIO(picture)).tobytes()


def test_each_of_a_thousand_concepts_can_be_drawn(
    client: TestClient, settings: ServiceSettings, thousand: dict[str, str]
) -> None:
    """Nine concepts from the first to the last draw with their own vectors, alone and together."""
    picked = [f"<c{number}>" for number in (0, 1, 9, 99, 333, 500, 777, 998, 999)]
    with worker(settings):
        pictures = set()
        for token in picked:
            used, pixels = _draw(client, token)
            assert used == {token: thousand[token]}
            pictures.add(pixels)
        used, pixels = _draw(client, *picked[:3])
        assert used == {token: thousand[token] for token in picked[:3]}
    assert len(pictures | {pixels}) == len(picked) + 1


def test_a_thousand_concepts_are_listed_page_by_page(client: TestClient, thousand: dict[str, str]) -> None:
    """The pages list each concept once."""
    seen: list[str] = []
    more = True
    while more:
        after = f"&after={seen[-1]}" if seen else ""
        page = client.get(f"/v1/concepts?limit=100{after}").json()
        seen += [concept["id"] for concept in page["data"]]
        more = page["has_more"]
    assert sorted(seen) == sorted(thousand.values())
