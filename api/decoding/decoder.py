"""A decoder process as the API sees it: starts it on first use, and ends it when it takes too long."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from api.decoding import messages
from zoodip_core.errors import ImageTooLargeError, InvalidImageError, InvalidInputError
from zoodip_core.images import Crop, ImageFacts, ImageFileFacts, ImageLimits
from zoodip_core.images.limits import invalid_image

_ROOT = str(Path(__file__).parents[2])
# Isolated from environment and working directory: only the folder of this package is added to the import path.
_START = (
    "import runpy, sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "runpy.run_module('api.decoding.child', run_name='__main__')"
)
_INHERITED = ("LD_LIBRARY_PATH", "PATH")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # NumPy would start one for each core
_ERRORS = {kind.code: kind for kind in (InvalidInputError, InvalidImageError, ImageTooLargeError)}


@dataclass(frozen=True)
class DecodeLimits:
    """Limits of one decode.

    Attributes:
        image: limits of bytes and pixels.
        timeout_s: wall-clock time.
        memory_mb: memory for one image, in MB.
    """

    image: ImageLimits
    timeout_s: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Result of a decoder process for one image.

    Attributes:
        facts: facts that warnings depend on.
        file: format and original size.
        png: the image as PNG; empty if it was not requested.
    """

    facts: ImageFacts
    file: ImageFileFacts
    png: bytes


class Decoder:
    """One decoder process. Not thread-safe."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def decode(
        self, data: bytes, *, name: str, encode: bool, opacity: bool = False, crop: Crop | None = None
    ) -> DecodedImage:
        """Decode one image.

        Args:
            data: content of the file.
            name: name of the file in error messages.
            encode: whether to return the PNG.
            opacity: whether the PNG of an image with transparent pixels keeps its opacity.
            crop: square to cut out; None keeps the whole image.

        Raises:
            ImageTooLargeError: the file has too many bytes.
            InvalidImageError: the file is not a usable image, or exceeds the limits of time or memory.
            InvalidInputError: the crop is not inside the image, or is too small.
        """
        request = {
            "name": name,
            "encode": encode,
            "opacity": opacity,
            "crop": None if crop is None else asdict(crop),
            "timeout_s": self._limits.timeout_s,
            "max_file_bytes": self._limits.image.max_file_bytes,
            "max_pixels": self._limits.image.max_pixels,
        }
        connection = self._connect()
        try:
            connection.settimeout(self._limits.timeout_s)
            messages.send(connection, request, data)
            answer, png = messages.receive(connection, timeout_s=self._limits.timeout_s)
        except TimeoutError as error:
            self.close()
            got = f"takes more than {self._limits.timeout_s:g} s to decode"
            raise invalid_image(name, got, "an image that decodes faster") from error
        except (EOFError, OSError, ValueError) as error:
            self.close()
            got = f"is damaged, or takes more than {self._limits.memory_mb:,} MB to decode"
            raise invalid_image(name, got, "a smaller image") from error
        except BaseException:
            self.close()  # the answer of this image must not become that of the next
            raise
        if "facts" in answer:
            return DecodedImage(ImageFacts(**answer["facts"]), ImageFileFacts(**answer["file"]), png)
        raise _ERRORS[answer["code"]](answer["message"], field=answer["field"])

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _connect(self) -> socket.socket:
        """Return the connection to the process; start the process if it does not run."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it was ended while it was idle
        if self._connection is not None:
            return self._connection
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(self._limits.memory_mb)]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-I", "-c", _START, _ROOT, *arguments],
                env=_ONE_THREAD | {name: os.environ[name] for name in _INHERITED if name in os.environ},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._connection = ours
        return ours
