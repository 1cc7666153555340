"""Who calls: API keys with scopes; without any key, this machine only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from api.service import Service, service_of
from zoodip_core.service.api_keys import ApiKey
from zoodip_core.service.errors import ForbiddenError, UnauthorizedError
from zoodip_core.service.loopback import is_loopback

LOCAL_OWNER = "local"


@dataclass(frozen=True, slots=True)
class Caller:
    """An owner of jobs and concepts, and the service that is called; `key` is None on one without keys."""

    service: Service
    owner: str
    key: ApiKey | None


async def authenticate(request: Request, service: Service) -> Caller:
    """The caller by its key; the local owner on a service without keys.

    Raises:
        UnauthorizedError: no key, an unknown or a revoked one, or a stranger where there are no keys.
        RateLimitedError: the key's requests come too fast.
    """
    secret = _secret_of(request)
    key = None if secret is None else await _key(service, secret)
    if key is not None:
        await _admit(service, key)
        return Caller(service, key.owner, key)
    exist = service.key_cache.recall_any()
    if exist is None:
        exist = await service.key_cache.find_any()
    if exist:
        raise UnauthorizedError(None if secret is None else "This API key is unknown or revoked")
    _check_local(request, service)  # a key where there are none is a client's way of sending something
    return Caller(service, LOCAL_OWNER, None)


async def is_still_open(request: Request, caller: Caller) -> bool:
    """Whether the key of a request that lasts is still good; it is asked for anew each second at most."""
    secret = _secret_of(request)
    return caller.key is None or (secret is not None and await _key(caller.service, secret) is not None)


def _secret_of(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


async def _key(service: Service, secret: str) -> ApiKey | None:
    key, fresh = service.key_cache.recall(secret)
    return key if fresh else await service.key_cache.find(secret)


async def _admit(service: Service, key: ApiKey) -> None:
    if key.rate_per_minute is not None:
        await service.limits.take(key.id, key.rate_per_minute)
    if not service.key_cache.is_use_noted(key):
        service.key_cache.note_use(key)


async def _reader(request: Request) -> Caller:
    return _needs("read", await authenticate(request, await service_of(request)))


async def _writer(request: Request) -> Caller:
    return _needs("write", await authenticate(request, await service_of(request)))


async def _operator(request: Request) -> Caller:
    return _needs("admin", await authenticate(request, await service_of(request)))


# All that a route depends on: each dependency costs a poll a tenth of its time.
Reader = Annotated[Caller, Depends(_reader)]
Writer = Annotated[Caller, Depends(_writer)]
Operator = Annotated[Caller, Depends(_operator)]


def _needs(scope: str, caller: Caller) -> Caller:
    if caller.key is not None and scope not in caller.key.scopes:
        raise ForbiddenError(f"this API key lacks the scope {scope!r}; it has {', '.join(caller.key.scopes)}")
    return caller


def _check_local(request: Request, service: Service) -> None:
    """Without keys only this machine is served, and no web page of another site (DNS rebinding, forms)."""
    if request.client is not None and not is_loopback(request.client.host):
        raise UnauthorizedError("This service has no API keys, so it answers its own machine only")
    host = _name_of(request.headers.get("Host", ""))
    if not is_loopback(host):
        raise UnauthorizedError(f"This service has no API keys, so it is not served as {host!r}")
    origin = request.headers.get("Origin")
    if origin and origin not in service.settings.cors_origins and _netloc_of(origin) != request.url.netloc:
        raise ForbiddenError(f"requests from pages of {origin} are not allowed; see ZOODIP_CORS_ORIGINS")


@lru_cache(maxsize=1024)
def _name_of(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _netloc_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
