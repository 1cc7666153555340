"""Messages in a folder, as with `kombu.transport.filesystem`, but a reader never sees half a message."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import structlog
from kombu import Connection
from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem, virtual
from kombu.utils.json import dumps

URL = "zoodip-folder://localhost"

_log = structlog.get_logger("zoodip.broker")


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu has no types
    """Channel that writes each message under another name first, and drops damaged messages."""

    def _put(self, queue: str, payload: dict[str, Any], **_kwargs: object) -> None:
        """Add a message at the end of a queue."""
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020}_{uuid.uuid4()}.{queue}.msg"
        written = folder / f"{name}.part"  # readers take only names that end with the queue's
        try:
            written.write_text(dumps(payload))
            written.replace(folder / name)
        except OSError as error:
            raise ChannelError(f"Cannot add a message to {folder}") from error

    def _get(self, queue: str) -> dict[str, Any]:
        """Return the next message of a queue. A power failure can leave a damaged one."""
        while True:
            try:
                message: dict[str, Any] = super()._get(queue)
            except json.JSONDecodeError as error:
                _log.warning("damaged_message_dropped", queue=queue, error=str(error))
            else:
                return message


class Transport(filesystem.Transport):  # type: ignore[misc]
    """Transport whose channels share one folder. It knows the queues of this folder only."""

    Channel = Channel

    def __init__(self, client: Connection, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = virtual.BrokerState()  # the base class shares one between all folders of a process


TRANSPORT_ALIASES[URL.partition(":")[0]] = f"{__name__}:{Transport.__name__}"
