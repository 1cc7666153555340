"""Main loop of a decoder process: decodes one image after the other until the API closes the connection.

It reads hostile files, so it has no secrets, no files and no network connections.
"""

from __future__ import annotations

import contextlib
import math
import resource
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin

from api.decoding import messages
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import Crop, ImageLimits, decode_image_file, encode_png, image_facts, without_opacity

_ALARM_DELAY_S = 2  # the API ends a slow decoder; the alarm ends one whose API was killed


def serve(connection: socket.socket, memory_mb: int) -> None:
    """Answer requests until the connection is closed.

    Args:
        connection: connection to the API.
        memory_mb: limit of the memory for one image, in MB.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal
    _use_one_thread()
    _limit_memory(memory_mb)
    with contextlib.suppress(EOFError, OSError):
        while True:
            request, content = messages.receive(connection)
            signal.alarm(math.ceil(request.pop("timeout_s")) + _ALARM_DELAY_S)
            messages.send(connection, *_answer(request, content))
            signal.alarm(0)


def _answer(request: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode an image; return its facts and its PNG, or the error."""
    limits = ImageLimits(request["max_file_bytes"], request["max_pixels"])
    crop = None if request["crop"] is None else Crop(**request["crop"])
    try:
        image, file = decode_image_file(content, name=request["name"], limits=limits, crop=crop)
    except InvalidInputError as error:
        return {"code": error.code, "message": error.message, "field": error.field}, b""
    kept = image if request["opacity"] else without_opacity(image)
    png = encode_png(kept) if request["encode"] else b""
    return {"facts": asdict(image_facts(image)), "file": asdict(file)}, png


def _use_one_thread() -> None:
    """Decode without threads: each would reserve address space, which the memory limit counts."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with contextlib.suppress(ImportError):
        from pillow_heif import options

        options.DECODE_THREADS = 1


def _limit_memory(memory_mb: int) -> None:
    """Limit the address space to `memory_mb` more than the process has now. Only Linux reports its size."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
