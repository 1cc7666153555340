"""`python -m worker.health`: whether this machine's worker looks for work (not merely exists)."""

from __future__ import annotations

import socket
import sys
import time

from sqlalchemy.exc import SQLAlchemyError

from zoodip_core.jobs import presence
from zoodip_core.jobs.database import Database
from zoodip_core.jobs.settings import ServiceSettings


def is_healthy(settings: ServiceSettings) -> bool:
    """Whether a worker of this host looked for work within the last lease."""
    try:
        with Database(settings.database).read() as connection:
            found = presence.consuming(connection, time.time(), settings.lease_s)
    except SQLAlchemyError:
        return False
    return any(worker.id.startswith(f"{socket.gethostname()}-") for worker in found)


if __name__ == "__main__":
    sys.exit(0 if is_healthy(ServiceSettings.from_environment()) else 1)
