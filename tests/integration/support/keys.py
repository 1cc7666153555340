"""API keys and their request headers."""

from __future__ import annotations

import time
from typing import Any

from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings


def make_key(settings: ServiceSettings, **options: Any) -> dict[str, str]:
    """Create an API key and return its Authorization header."""
    secret = api_keys.new_secret()
    database = Database(settings.database)
    with database.write() as connection:
        api_keys.create(connection, secret, time.time(), name="test", **options)
    database.close()
    return {"Authorization": f"Bearer {secret}"}
