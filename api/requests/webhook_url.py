"""Validation of webhook URLs in requests. Workers deliver the webhooks."""

from __future__ import annotations

from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.service import api_keys
from zoodip_core.service.errors import InvalidWebhookError
from zoodip_core.service.outbound_urls import parse_url


def check_webhook(connection: Connection, caller: Caller, url: str | None) -> None:
    """Validate a webhook URL, and that the service has a secret to sign its messages. None is valid.

    The worker checks the addresses of a host name at delivery.

    Raises:
        InvalidWebhookError: The URL is not allowed, or no secret is configured.
    """
    if url is None:
        return
    private = caller.service.settings.webhook_private
    parse_url(url, private=private, field="webhook", error=InvalidWebhookError)
    secrets = (
        caller.service.settings.webhook_secrets
        if caller.key is None
        else api_keys.webhook_secrets_of(connection, caller.owner)
    )
    if not secrets:
        raise InvalidWebhookError(
            "webhook: this service has no secret to sign messages; set ZOODIP_WEBHOOK_SECRETS",
            field="webhook",
        )
