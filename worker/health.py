"""`python -m worker.health`: exit with 0 if a worker of this host is ready, else with 1."""

from __future__ import annotations

import sys
import time

from sqlalchemy.exc import SQLAlchemyError

from zoodip_core.service import worker_registry
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings


def is_healthy(settings: ServiceSettings) -> bool:
    """Return whether a worker of this host reports itself, and its engine makes progress."""
    try:
        with Database(settings.database).read() as connection:
            found = worker_registry.ready(connection, time.time(), settings)
    except SQLAlchemyError:
        return False
    return any(worker.id.startswith(worker_registry.id_prefix()) for worker in found)


if __name__ == "__main__":
    sys.exit(0 if is_healthy(ServiceSettings.from_environment()) else 1)
