"""Start of a worker with the production engine: a wrong setting ends it before it claims jobs."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.support.workers import worker
from zoodip_core.service.settings import ServiceSettings


def test_a_worker_without_its_device_ends(tmp_path: Path) -> None:
    """The process exits with code 1, and the last line names the device and the available ones."""
    settings = ServiceSettings(data_dir=tmp_path, device="cuda:99")
    with worker(settings, wait=False) as started:
        assert started.process.wait(120) == 1
    last_line = json.loads(started.log.read_text().splitlines()[-1])
    assert last_line["event"] == "startup_failed"
    assert last_line["error"].startswith("device: got 'cuda:99'; expected cpu")
