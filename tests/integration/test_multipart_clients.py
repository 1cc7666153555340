"""Multipart bodies as generated clients, browsers, PHP and curl send them; and bodies that must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.requests.form_reader import MAX_FIELD_BYTES
from tests.integration.support.concepts import tiny_concept
from tests.integration.support.photos import REQUEST, photo

PERSONALIZATIONS = "/v1/personalizations"
_JSON = json.dumps(REQUEST).encode()
_END = b"--x--\r\n"


def _part(name: str, content: bytes, *headers: str, file_name: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file_name is not None:
        disposition += f'; filename="{file_name}"'
    return "\r\n".join(["--x", disposition, *headers, "", ""]).encode() + content + b"\r\n"


def _post(client: TestClient, *parts: bytes, path: str = PERSONALIZATIONS) -> Any:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return client.post(path, content=b"".join(parts), headers=headers)


def _images(name: str = "images", count: int = 1) -> bytes:
    return b"".join(_part(name, photo(), file_name=f"{n}.png") for n in range(count))


@pytest.mark.parametrize(
    "part",
    [
        _part("request", _JSON, "Content-Type: application/json", file_name="blob"),
        _part("request", _JSON, "Content-Type: application/json; charset=utf-8", file_name="request.json"),
        _part("request", _JSON, "Content-Type: application/json"),
        _part(
            "request", b"\xef\xbb\xbf" + _JSON, "Content-Type: application/octet-stream", file_name="r.json"
        ),
        _part("request", _JSON, "Content-Type: text/plain", file_name=""),
    ],
    ids=["browser blob", "curl file", "typed field", "file with a byte order mark", "empty file name"],
)
def test_request_part_of_any_form(client: TestClient, part: bytes) -> None:
    """The part `request` may have a file name and a content type, before or after the images."""
    assert _post(client, part, _images(), _END).status_code == 202
    last = _post(client, _images(), part.replace(b"<my-dog>", b"<my-cat>"), _END)
    assert (last.status_code, last.json()["token"]) == (202, "<my-cat>")


@pytest.mark.parametrize("name", ["images", "images[]", "images[0]"])
def test_names_of_lists(client: TestClient, name: str) -> None:
    """PHP and Rails append brackets to the name of a list."""
    response = _post(
        client, _images(name, 2), _part("request", _JSON), _END, path=f"{PERSONALIZATIONS}?validate_only=true"
    )
    assert (response.status_code, response.json()["images"]) == (200, 2)


def test_an_unknown_name_of_the_images_is_named(client: TestClient) -> None:
    """Files under another name are ignored; without any image, the error names them."""
    response = _post(client, _images("image", 2), _part("request", _JSON), _END)
    assert (response.status_code, response.json()["code"]) == (422, "image_count")
    detail = "images: got 0 (skipped the part 'image', the part 'image'); expected 1 to 16"
    assert response.json()["detail"] == detail


def test_empty_file_inputs_of_browsers(client: TestClient) -> None:
    """An empty file without a name is an input without a choice; a file without a name gets a number."""
    empty = _part("images", b"", "Content-Type: application/octet-stream", file_name="")
    response = _post(
        client,
        empty,
        _images(),
        empty,
        _part("request", _JSON),
        _END,
        path=f"{PERSONALIZATIONS}?validate_only=1",
    )
    assert (response.status_code, response.json()["images"]) == (200, 1)
    unnamed = _post(
        client, _images(), _part("images", b"no image", file_name=""), _part("request", _JSON), _END
    )
    assert "file 2" in unnamed.json()["detail"]


def test_import_with_a_file_name_on_each_part(client: TestClient, catalog: Path) -> None:
    """A concept can be imported by a client that sends each part with a file name, or empty optional fields."""
    file = _part(
        "file", tiny_concept(catalog), "Content-Type: application/octet-stream", file_name="a.safetensors"
    )
    token = _part("token", b"<my-cat>", "Content-Type: text/plain", file_name="blob")
    response = _post(client, token, file, _END, path="/v1/concepts")
    assert (response.status_code, response.json()["token"]) == (201, "<my-cat>")
    optional = (_part(name, b"") for name in ("token", "base_model", "replace"))
    response = _post(client, *optional, file, _END, path="/v1/concepts")
    assert (response.status_code, response.json()["token"]) == (201, "<my-dog>")


@pytest.mark.parametrize("name", ["request", "token", "replace"])
def test_repeated_fields(client: TestClient, catalog: Path, name: str) -> None:
    """A field that comes twice is refused, and nothing is created."""
    path = PERSONALIZATIONS if name == "request" else "/v1/concepts"
    value = _JSON if name == "request" else b"<my-cat>"
    files = _images() if name == "request" else _part("file", tiny_concept(catalog), file_name="a")
    response = _post(client, _part(name, value), files, _part(name, value, file_name="blob"), _END, path=path)
    assert (response.status_code, response.json()["errors"]) == (
        422,
        [{"field": name, "message": f"{name}: got this field twice; expected it once"}],
    )
    assert client.get(path).json()["data"] == []


def test_two_files_to_import(client: TestClient, catalog: Path) -> None:
    """An import takes one file."""
    file = _part("file", tiny_concept(catalog), file_name="a")
    response = _post(client, file, file, _END, path="/v1/concepts")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "file")


def test_field_that_is_not_utf8(client: TestClient) -> None:
    """Bytes that are not UTF-8 are refused, not replaced."""
    response = _post(client, _images(), _part("request", b'{"token": "\xff"}'), _END)
    assert response.json()["detail"] == "request: got bytes that are not UTF-8; expected text in UTF-8"


@pytest.mark.parametrize("known", [True, False])
def test_total_size_of_fields(client: TestClient, *, known: bool) -> None:
    """The fields of a request share one limit; unknown fields count."""
    fields = [_part("request" if known and n == 0 else f"field{n}", b"a" * 60_000) for n in range(5)]
    response = _post(client, *fields, _images(), _END)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert f"{MAX_FIELD_BYTES:,} bytes" in response.json()["detail"]


def test_ignored_files_have_a_limit(client: TestClient) -> None:
    """Files of unknown parts are ignored, but a request cannot contain any amount of them."""
    files = [_part("extra", b"a" * 6_000_000, file_name="x")] * 2
    response = _post(client, *files, _images(), _part("request", _JSON), _END)
    assert (response.status_code, response.json()["code"]) == (413, "image_too_large")


def test_large_upload_with_another_spelling_of_its_type(client: TestClient) -> None:
    """Media types have no case; a large body of this type is not taken for JSON."""
    body = _images() + _part("request", _JSON) + _part("extra", b"a" * 100_000, file_name="x") + _END
    headers = {"Content-Type": 'Multipart/Form-Data; Boundary="x"'}
    assert client.post(PERSONALIZATIONS, content=body, headers=headers).status_code == 202


@pytest.mark.parametrize("content_type", [None, "application/json", "multipart/form-data", "text/plain; a=b"])
def test_other_content_types(client: TestClient, content_type: str | None) -> None:
    """The error of another content type names the header."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    for path in (PERSONALIZATIONS, "/v1/concepts"):
        response = client.post(path, content=_JSON, headers=headers)
        assert response.status_code == 415
        assert response.json()["detail"] == (
            f"Content-Type: got {content_type or 'nothing'}; expected multipart/form-data with a boundary"
        )
