"""Public IP addresses. URLs of clients lead only there, so that they cannot reach internal services."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_SIX_TO_FOUR = IPv6Network("2002::/16")  # the IPv4 address follows the prefix
_IPV4_IN_LAST_BITS = (
    IPv6Network("::/96"),  # IPv4-compatible
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated
    IPv6Network("64:ff9b::/96"),  # NAT64
)
_IPV6_GLOBAL = IPv6Network("2000::/3")  # all other addresses are unallocated or special
_IPV6_DOCUMENTATION = IPv6Network("3fff::/20")  # Python 3.11 takes it for global
_IPV4_RELAYS = IPv4Network("192.88.99.0/24")  # relays of 6to4


def is_public(address: str) -> bool:
    """Return whether an address is public and, if it contains an IPv4 address, whether that is public, too.

    Args:
        address: IPv4 or IPv6 address; may have a zone (`fe80::1%eth0`).

    Raises:
        ValueError: The text is no IP address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        embedded = _embedded_ipv4(parsed)
        if embedded is None:
            return parsed.is_global and parsed in _IPV6_GLOBAL and parsed not in _IPV6_DOCUMENTATION
        parsed = embedded
    return parsed.is_global and not parsed.is_multicast and parsed not in _IPV4_RELAYS


def _embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address in _SIX_TO_FOUR:
        return IPv4Address(address.packed[2:6])
    if any(address in network for network in _IPV4_IN_LAST_BITS):
        return IPv4Address(address.packed[12:])
    return None
