"""Webhook signatures and the addresses that webhooks can reach."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook

from worker.webhook_sender import public_address, sign
from zoodip_core.service.api_keys import new_webhook_secret

PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),  # noqa: S104
    *(
        "::1",
        "::ffff:10.0.0.1",
        "fd00::1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::",
        "fec0::1",
        "::ffff:0:10.0.0.1",
    ),
)


def test_the_official_library_verifies_our_signature() -> None:
    """The Standard Webhooks package accepts a message signed with two secrets, and rejects a changed payload."""
    old, new = new_webhook_secret(), new_webhook_secret()
    payload, stamp = '{"type": "personalization.succeeded"}', str(int(time.time()))
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(secret, "msg_1", stamp, payload) for secret in (new, old)),
    }
    for secret in (old, new):
        assert Webhook(secret).verify(payload, headers) == {"type": "personalization.succeeded"}
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(old).verify(payload + " ", headers)


@pytest.mark.parametrize("host", PRIVATE)
def test_non_public_addresses_are_rejected(host: str) -> None:
    """Loopback, private, link-local (cloud metadata), mapped, shared and multicast addresses are rejected."""
    with pytest.raises(OSError, match="not public"):
        public_address(host, 443)
    assert public_address(host, 443, private=True)[1] == 443
