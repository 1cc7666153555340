"""`python -m worker.health`: exit with 0 if a worker of this host polls for jobs, else with 1."""

from __future__ import annotations

import socket
import sys
import time

from sqlalchemy.exc import SQLAlchemyError

from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings


def is_healthy(settings: ServiceSettings) -> bool:
    """Return whether a worker of this host reported itself within the last `lease_s` seconds."""
    try:
        with Database(settings.database).read() as connection:
            found = worker_registry.consuming(connection, time.time(), settings.lease_s)
    except SQLAlchemyError:
        return False
    return any(worker.id.startswith(f"{socket.gethostname()}-") for worker in found)


if __name__ == "__main__":
    sys.exit(0 if is_healthy(ServiceSettings.from_environment()) else 1)
