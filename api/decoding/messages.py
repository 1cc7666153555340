"""Messages between the API and a decoder process: a JSON object, followed by bytes."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

_LENGTHS = struct.Struct(">II")  # of the JSON text and of the bytes
_CHUNK_BYTES = 1 << 20


def send(connection: socket.socket, facts: dict[str, Any], content: bytes = b"") -> None:
    """Send a JSON object and bytes.

    Raises:
        OSError: the other process has ended, or does not read within the timeout of the socket.
    """
    text = json.dumps(facts).encode()
    connection.sendall(_LENGTHS.pack(len(text), len(content)) + text)
    connection.sendall(content)


def receive(connection: socket.socket, *, timeout_s: float | None = None) -> tuple[dict[str, Any], bytes]:
    """Return the next JSON object and its bytes.

    Args:
        connection: connected socket.
        timeout_s: deadline for the whole message; None waits without limit.

    Raises:
        EOFError: the other process has ended.
        TimeoutError: the message is not complete at the deadline.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    text_bytes, content_bytes = _LENGTHS.unpack(_receive_exactly(connection, _LENGTHS.size, deadline))
    facts = json.loads(_receive_exactly(connection, text_bytes, deadline))
    return facts, _receive_exactly(connection, content_bytes, deadline)


def _receive_exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    received = bytearray()
    while len(received) < size:
        if deadline is not None:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(min(_CHUNK_BYTES, size - len(received)))
        if not part:
            raise EOFError("the connection is closed")
        received += part
    return bytes(received)
