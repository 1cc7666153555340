"""Quotas of usage of the caller: those of its key, then those of the settings."""

from __future__ import annotations

import time

from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.service import quotas
from zoodip_core.service.quotas import Estimate, Quotas


def quotas_of(caller: Caller) -> Quotas:
    """Return the quotas of the caller. They apply to all usage of its owner, who may have several keys."""
    settings = caller.service.settings
    return Quotas.first_of(settings) if caller.key is None else Quotas.first_of(caller.key, settings)


def check_usage_quota(connection: Connection, caller: Caller, new: Estimate) -> None:
    """Validate that a request stays within the quotas of usage.

    Raises:
        QuotaExceededError: The request would exceed a quota.
    """
    quotas.check(connection, caller.owner, quotas_of(caller), new, time.time())
