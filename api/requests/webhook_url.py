"""Validation of webhook URLs in requests. Workers deliver the webhooks."""

from __future__ import annotations

from urllib.parse import urlsplit

from sqlalchemy import Connection

from api.auth import Caller
from zoodip_core.service import api_keys
from zoodip_core.service.errors import InvalidWebhookError
from zoodip_core.service.loopback import is_loopback
from zoodip_core.service.public_addresses import is_public


def check_webhook(connection: Connection, caller: Caller, url: str | None) -> None:
    """Validate a webhook URL, and that the service has a secret to sign its messages. None is valid.

    The worker checks the addresses of a host name at delivery.

    Raises:
        InvalidWebhookError: The URL is not allowed, or no secret is configured.
    """
    if url is None:
        return
    _check_url(url, private=caller.service.settings.webhook_private)
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


def _check_url(url: str, *, private: bool) -> None:
    """Validate the form of a URL and, unless `private`, that it is https and names no private address."""
    if not all("!" <= character <= "~" for character in url):
        raise InvalidWebhookError.mismatch(
            "webhook",
            got=repr(url),
            expected="printable ASCII without spaces; percent-encode other characters",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidWebhookError.mismatch(
            "webhook", got="a malformed URL", expected=f"a valid URL ({error})"
        ) from error
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise InvalidWebhookError.mismatch("webhook", got=repr(url), expected=f"an {schemes[0]} URL")
    if parts.username is not None or parts.password is not None:
        raise InvalidWebhookError.mismatch(
            "webhook", got="a URL with a user name or password", expected="a URL without them"
        )
    if not private and _is_private(parts.hostname):
        raise InvalidWebhookError.mismatch(
            "webhook", got=f"the host {parts.hostname}", expected="a host with a public address"
        )


def _is_private(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a host name
        return is_loopback(host)
