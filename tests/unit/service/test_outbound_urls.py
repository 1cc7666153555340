"""URLs of clients that the service may call, and the addresses that they may lead to."""

from __future__ import annotations

import pytest

from zoodip_core.errors import InvalidInputError
from zoodip_core.service.outbound_urls import host_and_port, parse_url, resolve, target

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


@pytest.mark.parametrize("host", PRIVATE)
def test_non_public_addresses_are_rejected(host: str) -> None:
    """Loopback, private, link-local (cloud metadata), mapped, shared and multicast addresses are rejected."""
    with pytest.raises(OSError, match="not public"):
        resolve(host, 443)
    assert resolve(host, 443, private=True)


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "localhost"])
def test_names_of_private_addresses_are_rejected(host: str) -> None:
    """Other spellings of an address count as the address that they resolve to."""
    with pytest.raises(OSError, match="not public"):
        resolve(host, 443)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/a", "an https URL"),
        ("file:///etc/passwd", "an https URL"),
        ("https:///a", "an https URL"),
        ("https://example.org:0/", "an https URL"),
        ("https://me:secret@example.org/", "a URL with a user name or password"),
        ("https://exa mple.org/", "printable ASCII"),
        ("https://[::1/", "a malformed URL"),
        ("https://10.0.0.1/", "the host 10.0.0.1"),
        ("https://[::ffff:10.0.0.1]/", "the host ::ffff:10.0.0.1"),
        ("https://localhost/", "the host localhost"),
    ],
)
def test_other_urls_are_refused(url: str, message: str) -> None:
    """The message names the field and never repeats a password."""
    with pytest.raises(InvalidInputError) as error:
        parse_url(url, private=False, field="image_urls[3]")
    assert error.value.message.startswith("image_urls[3]: got ")
    assert message in error.value.message
    assert "secret" not in error.value.message
    assert error.value.field == "image_urls"


def test_parts_of_a_url() -> None:
    """Host, port and target are what a request needs; the fragment is not sent."""
    parts = parse_url("https://example.org/a%20b?c=d#e", private=False, field="url")
    assert (host_and_port(parts), target(parts)) == (("example.org", 443), "/a%20b?c=d")
    local = parse_url("http://[::1]:81", private=True, field="url")
    assert (host_and_port(local), target(local)) == (("::1", 81), "/")
