"""The multipart parser reads a body in chunks and ignores what follows its end, up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from api.requests.form_reader import FormSchema
from api.requests.uploads import read_upload

_SCHEMA = FormSchema(files="images", fields=frozenset({"request"}), max_files=2, max_file_bytes=1_000)
_BODY = (
    b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nfirst\r\n'
    b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n{}\r\n'
    b'--x\r\nContent-Disposition: form-data; name="images"; filename="b"\r\n\r\nsecond\r\n--x--\r\n'
)


def _read(chunks: Sequence[bytes]) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    async def read() -> tuple[dict[str, str], list[tuple[str, bytes]]]:
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        async with read_upload(Request({"type": "http", "headers": headers}, receive), _SCHEMA) as upload:
            return upload.fields, [(file.name, file.read()) for file in upload.files]

    return asyncio.run(read())


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_chunks(size: int) -> None:
    """The result does not depend on how the body is split, also when a file is not the last part."""
    chunks = [_BODY[start : start + size] for start in range(0, len(_BODY), size)]
    assert _read(chunks) == ({"request": "{}"}, [("a", b"first"), ("b", b"second")])


def test_short_epilogue_is_ignored() -> None:
    """RFC 2046 permits bytes after the final boundary."""
    assert len(_read([_BODY, b"a" * 60_000])[1]) == 2


def test_long_epilogue_is_refused() -> None:
    """A body that does not end after its final boundary gets 400."""
    with pytest.raises(HTTPException, match="continues after its final boundary"):
        _read([_BODY, *[b"a" * 60_000] * 2])
