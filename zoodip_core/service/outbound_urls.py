"""URLs of clients that the service calls, for webhooks and reference images: which are allowed, where they lead."""

from __future__ import annotations

import socket
from urllib.parse import SplitResult, urlsplit

from zoodip_core.errors import InvalidInputError
from zoodip_core.service.loopback import is_loopback
from zoodip_core.service.public_addresses import is_public


def parse_url(
    url: str, *, private: bool, field: str, error: type[InvalidInputError] = InvalidInputError
) -> SplitResult:
    """Validate the form of a URL and, unless `private`, that it is https and names no private address.

    The addresses of a host name are checked at the connection, by `resolve`.

    Args:
        url: the URL.
        private: allow http and non-public addresses.
        field: field of the URL in messages.
        error: class of the error.

    Raises:
        InvalidInputError: The URL is not allowed; of the class `error`.
    """
    if not all("!" <= character <= "~" for character in url):
        expected = "printable ASCII without spaces; percent-encode other characters"
        raise error.mismatch(field, got=repr(url), expected=expected)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as reason:
        raise error.mismatch(field, got="a malformed URL", expected=f"a valid URL ({reason})") from reason
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise error.mismatch(field, got=repr(url), expected=f"an {schemes[0]} URL")
    if parts.username is not None or parts.password is not None:
        raise error.mismatch(field, got="a URL with a user name or password", expected="a URL without them")
    if not private and _is_private(parts.hostname):
        raise error.mismatch(field, got=f"the host {parts.hostname}", expected="a host with a public address")
    return parts


def host_and_port(parts: SplitResult) -> tuple[str, int]:
    """Return the host of a URL and its port, by default that of its scheme."""
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def target(parts: SplitResult) -> str:
    """Return the path and query of a URL, for the first line of a request."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def resolve(host: str, port: int, *, private: bool = False) -> str:
    """Resolve a host to an address that is safe to connect to.

    The caller connects to this address directly, so a second DNS lookup cannot return another one.

    Args:
        host: host name or address.
        port: port to connect to.
        private: allow non-public addresses.

    Raises:
        OSError: the host is unknown, or one of its addresses is not public.
        UnicodeError: the host name has a part that is empty or too long.
    """
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not private and not all(is_public(address) for address in addresses):
        raise OSError(f"the host {host} has an address that is not public")
    return addresses[0]


def _is_private(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:  # a host name
        return is_loopback(host)
