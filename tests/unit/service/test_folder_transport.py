"""Messages in a folder: a reader gets each one whole, and damaged ones end nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection
from kombu.simple import SimpleQueue

from zoodip_core.service.broker import celery_app
from zoodip_core.service.settings import ServiceSettings


def _queue(settings: ServiceSettings) -> SimpleQueue:
    connection: Connection = celery_app(settings).connection_for_write()
    return connection.SimpleQueue("zoodip-generation", no_ack=True)


def test_a_reader_never_sees_half_a_message(tmp_path: Path) -> None:
    """A reader that polls all the time gets all messages of a writer, in order."""
    settings, count = ServiceSettings(data_dir=tmp_path), 300
    with _queue(settings) as written, _queue(settings) as read, ThreadPoolExecutor(1) as writer:
        sent = writer.submit(lambda: [written.put({"number": number}) for number in range(count)])
        received = [read.get(timeout=20).payload["number"] for _ in range(count)]
        sent.result()
    assert received == list(range(count))
    assert not [file for file in (tmp_path / "broker").iterdir() if file.is_file()]


def test_a_damaged_message_is_dropped(tmp_path: Path) -> None:
    """An empty file, as a power failure leaves it, does not hide the message behind it."""
    with _queue(ServiceSettings(data_dir=tmp_path)) as queue:
        (tmp_path / "broker/00_0.zoodip-generation.msg").touch()
        queue.put({"number": 1})
        assert queue.get(timeout=20).payload == {"number": 1}
        with pytest.raises(Empty):
            queue.get(block=False)
