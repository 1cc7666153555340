"""`GET /v1/vocabulary`: how a base model reads a text, and words that complete it."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize(
    ("text", "is_initializer", "pieces"),
    [
        ("Dog", True, ["dog"]),
        ("dog cat", True, ["dog", "cat"]),
        ("catdog", True, None),
        ("dog <|endoftext|>", False, None),
    ],
)
def test_a_text_is_split_as_the_base_model_reads_it(
    client: TestClient, text: str, is_initializer: bool, pieces: list[str] | None
) -> None:
    """A word is usable as an initializer exactly if a personalization accepts it."""
    found = client.get("/v1/vocabulary", params={"text": text}).json()
    assert (found["base_model"], found["is_initializer"]) == ("tiny", is_initializer)
    assert pieces is None or found["pieces"] == pieces
    assert len(found["pieces"]) > 0


def test_suggestions_start_with_the_text(client: TestClient) -> None:
    """At most `limit` words; an unknown base model is refused by name."""
    found = client.get("/v1/vocabulary", params={"text": "gr", "base_model": "other", "limit": 9}).json()
    assert set(found["suggestions"]) == {"grass", "green"}
    assert len(client.get("/v1/vocabulary", params={"text": "c", "limit": 2}).json()["suggestions"]) == 2
    refused = client.get("/v1/vocabulary", params={"text": "a", "base_model": "none"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "base_model")
    assert client.get("/v1/vocabulary").json()["errors"][0]["field"] == "text"
