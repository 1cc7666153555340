"""API keys as requests carry them."""

from __future__ import annotations

import time
from typing import Any

from zoodip_core.jobs import keys
from zoodip_core.jobs.database import Database
from zoodip_core.jobs.settings import ServiceSettings


def make_key(settings: ServiceSettings, **options: Any) -> dict[str, str]:
    """The header of a new key."""
    secret = keys.new_secret()
    database = Database(settings.database)
    with database.write() as connection:
        keys.create(connection, secret, time.time(), name="test", **options)
    database.close()
    return {"Authorization": f"Bearer {secret}"}
