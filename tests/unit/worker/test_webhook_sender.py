"""Webhook signatures."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook

from worker.webhook_sender import sign
from zoodip_core.service.api_keys import new_webhook_secret


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
