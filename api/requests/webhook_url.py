"""Webhooks as a request may ask for them; the delivery itself is the workers'."""

from __future__ import annotations

from urllib.parse import urlsplit

from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.service import api_keys
from zoodip_core.service.errors import InvalidWebhookError


def check_webhook(connection: Connection, caller: Caller, url: str | None) -> None:
    """Nothing, if the URL may be told of the job's end and there is a secret to sign with.

    Raises:
        InvalidWebhookError: says what is wrong with it. (Addresses are checked when it is called.)
    """
    if url is None:
        return
    if not all("!" <= character <= "~" for character in url):
        raise InvalidWebhookError(
            f"webhook: {url!r} came; allowed: printable ASCII without spaces (others percent-encoded)",
            field="webhook",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidWebhookError(f"webhook: {error}", field="webhook") from error
    schemes = ("https", "http") if caller.service.settings.webhook_private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise InvalidWebhookError(f"webhook: {url!r} came; allowed: an {schemes[0]} URL", field="webhook")
    if parts.username is not None or parts.password is not None:
        raise InvalidWebhookError(
            "webhook: a URL with a user name or password is not allowed", field="webhook"
        )
    secrets = (
        caller.service.settings.webhook_secrets
        if caller.key is None
        else api_keys.webhook_secrets_of(connection, caller.owner)
    )
    if not secrets:
        raise InvalidWebhookError(
            "webhook: this service has no secret to sign with; set ZOODIP_WEBHOOK_SECRETS", field="webhook"
        )
