"""Public addresses, and special ones that must not receive webhooks."""

from __future__ import annotations

import pytest

from zoodip_core.service.public_addresses import is_public

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1")
_SPECIAL_IPV4 = (
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),  # noqa: S104
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255"),
)
_SPECIAL_IPV6 = (
    *(
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00::1",
        "ff02::1",
        "100::1",
        "2001::1",
    ),
    *("2001:db8::1", "3fff::1", "5f00::1", "64:ff9b:1::808:808", "4000::1"),
)
_EMBEDDING = ("::{}", "::ffff:{}", "::ffff:0:{}", "64:ff9b::{}")


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    """Global addresses are public, also inside a transition address."""
    assert is_public(address)


@pytest.mark.parametrize("address", [*_SPECIAL_IPV4, *_SPECIAL_IPV6])
def test_special(address: str) -> None:
    """Private, local, shared, documentation, multicast and unallocated addresses are not public."""
    assert not is_public(address)


@pytest.mark.parametrize("form", _EMBEDDING)
@pytest.mark.parametrize("address", _SPECIAL_IPV4)
def test_special_in_a_transition_address(form: str, address: str) -> None:
    """An IPv6 address that leads to a special IPv4 address is not public."""
    assert not is_public(form.format(address))


def test_six_to_four() -> None:
    """The IPv4 address of 6to4 follows the prefix."""
    assert not is_public("2002:a00:1::8.8.8.8")
    assert not is_public("2002:7f00:1::")


def test_host_name() -> None:
    """A host name is no address."""
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public("example.org")
