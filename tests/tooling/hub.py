"""A hub on the loopback interface: serves model repositories with the calls that huggingface_hub makes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: address for HF_ENDPOINT.
        repositories: `owner/name` → folder with its files; each has one commit and the branch main.
        gated: repositories whose files need access.
        cut: file name → number of bytes after which its next download breaks.
        statuses: end of a path → status of its answers.
        sizes: file name → size that the hub states, if it is not that of the file.
        requests: lines of all requests, with the range of a download.
    """

    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub without repositories on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with the headers of a file."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with facts about a repository, or a file."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path, _, _query = self.path.partition("?")
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        facts = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = facts or file
        folder = self.hub.repositories.get(match[1]) if match else None
        status = next((status for end, status in self.hub.statuses.items() if path.endswith(end)), None)
        if status is not None:
            self._refuse(status, "")
        elif match is None or folder is None:
            self._refuse(404, "RepoNotFound")
        elif match[3 if facts else 2] not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif facts:
            self._send_json(self._facts(match[1], folder) if match[2] == "revision" else self._tree(folder))
        elif match[1] in self.hub.gated:
            self._refuse(401, "GatedRepo")
        elif not (folder / match[3]).is_file():
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(folder / match[3], match[3], body=body)

    def _facts(self, name: str, folder: Path) -> dict[str, Any]:
        files = [{"rfilename": entry["path"], "size": entry["size"]} for entry in self._tree(folder)]
        return {"id": name, "sha": COMMIT, "private": False, "siblings": files}

    def _tree(self, folder: Path) -> list[dict[str, Any]]:
        names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        return [
            {
                "type": "file",
                "path": name,
                "size": self.hub.sizes.get(name, (folder / name).stat().st_size),
                "oid": hashlib.sha1((folder / name).read_bytes(), usedforsecurity=False).hexdigest(),
            }
            for name in names
        ]

    def _send_json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, file: Path, name: str, *, body: bool) -> None:
        content = file.read_bytes()
        first = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or ["", "0"])[1])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        stop = self.hub.cut.pop(name, None)
        self.wfile.write(content[first:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
