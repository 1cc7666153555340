"""Authentication and authorization: API keys with scopes. Without keys, only this machine has access."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from api.service import Service, service_of
from zoodip_core.service.api_keys import LOCAL_OWNER, ApiKey
from zoodip_core.service.errors import ForbiddenError, UnauthorizedError
from zoodip_core.service.loopback import is_loopback


@dataclass(frozen=True, slots=True)
class Caller:
    """Authenticated client of a request; `key` is None on a service without keys.

    `owner` is the identity that the client's jobs and concepts belong to.
    """

    service: Service
    owner: str
    key: ApiKey | None

    @property
    def key_id(self) -> str:
        """Id of the API key; empty on a service without keys."""
        return "" if self.key is None else self.key.id


async def authenticate(request: Request, service: Service) -> Caller:
    """Identify the caller by its API key, or as the local owner on a service without keys.

    Raises:
        UnauthorizedError: The key is missing, unknown or revoked. Or no keys exist and the client is remote.
        RateLimitedError: The key exceeds its rate limit.
    """
    secret = _secret(request)
    key = None if secret is None else await service.key_cache.find(secret)
    if key is not None:
        await _count_request(service, key)
        return Caller(service, key.owner, key)
    if await service.key_cache.any_exist():
        raise UnauthorizedError(None if secret is None else "This API key is unknown or revoked.")
    _check_local(request, service)  # no keys are configured, so ignore any key that the client sends
    return Caller(service, LOCAL_OWNER, None)


async def is_still_authorized(request: Request, caller: Caller) -> bool:
    """Return whether the key of a long request is still valid. Queries the database at most once a second."""
    secret = _secret(request)
    return caller.key is None or (
        secret is not None and await caller.service.key_cache.find(secret) is not None
    )


def _secret(request: Request) -> str | None:
    """Return the secret of the Authorization header: a bearer token, or the password of Basic authentication."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2] or None
    except ValueError:
        return None


async def _count_request(service: Service, key: ApiKey) -> None:
    if key.rate_per_minute is not None:
        await service.rate_limits.take(key.id, key.rate_per_minute)
    if not service.key_cache.is_use_recorded(key):
        service.key_cache.record_use(key)


async def _reader(request: Request) -> Caller:
    return _require_scope("read", await authenticate(request, await service_of(request)))


async def _writer(request: Request) -> Caller:
    return _require_scope("write", await authenticate(request, await service_of(request)))


async def _admin(request: Request) -> Caller:
    return _require_scope("admin", await authenticate(request, await service_of(request)))


# The only dependency of a route: each further dependency adds a tenth to the time of a status poll.
Reader = Annotated[Caller, Depends(_reader)]
Writer = Annotated[Caller, Depends(_writer)]
Admin = Annotated[Caller, Depends(_admin)]


def _require_scope(scope: str, caller: Caller) -> Caller:
    if caller.key is not None and scope not in caller.key.scopes:
        scopes = ", ".join(caller.key.scopes)
        raise ForbiddenError(f"This API key lacks the scope {scope!r}; its scopes are: {scopes}.")
    return caller


def _check_local(request: Request, service: Service) -> None:
    """Validate that a request without keys comes from this machine and not from a page of another site.

    The checks of Host and Origin prevent DNS rebinding and cross-site forms.

    Raises:
        UnauthorizedError: The client or the Host header is not local.
        ForbiddenError: The Origin header names another site that is not in `cors_origins`.
    """
    if request.client is not None and not is_loopback(request.client.host):
        raise UnauthorizedError("This service has no API keys, so it serves only its own machine.")
    host = _hostname(request.headers.get("Host", ""))
    if not is_loopback(host):
        raise UnauthorizedError(f"This service has no API keys, so it does not serve the host name {host!r}.")
    origin = request.headers.get("Origin")
    if origin and origin not in service.settings.cors_origins and _netloc(origin) != request.url.netloc:
        raise ForbiddenError(f"ZOODIP_CORS_ORIGINS does not allow requests from pages of {origin}.")


@lru_cache(maxsize=1024)
def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
