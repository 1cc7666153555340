"""Who calls: API keys with scopes; without any key, this machine only."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from api.service import Service, service_of
from zoodip_core.jobs import keys
from zoodip_core.jobs.errors import ForbiddenError, UnauthorizedError
from zoodip_core.jobs.records import Key

LOCAL_OWNER = "local"
_NOTE_USE_EVERY_S = 60.0
_LOCAL_NAMES = frozenset({"localhost", "testserver"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An owner of jobs and concepts, and the service that is called; `key` is None on one without keys."""

    service: Service
    owner: str
    key: Key | None


async def authenticate(request: Request, service: Service) -> Caller:
    """The caller by its key; the local owner on a service without keys.

    Raises:
        UnauthorizedError: no key, an unknown or a revoked one, or a stranger where there are no keys.
        RateLimitedError: the key's requests come too fast.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    keyring, given = service.keyring, scheme.lower() == "bearer" and bool(secret)
    if given:
        key, fresh = keyring.recall(secret.strip())
        if not fresh:
            key = await run_in_threadpool(keyring.find, secret.strip())
        if key is not None:
            await _admit(service, key)
            return Caller(service, key.owner, key)
    exist = keyring.recall_any()
    if exist is None:
        exist = await run_in_threadpool(keyring.find_any)
    if exist:
        raise UnauthorizedError("This API key is unknown or revoked" if given else None)
    _check_local(request, service)  # a key where there are none is a client's way of sending something
    return Caller(service, LOCAL_OWNER, None)


async def _admit(service: Service, key: Key) -> None:
    now = time.time()
    if key.rate_per_minute is not None:
        await service.limits.take(key.id, key.rate_per_minute)
    if key.last_used_at is None or now - key.last_used_at > _NOTE_USE_EVERY_S:
        await run_in_threadpool(_note_use, service, key, now)


def _note_use(service: Service, key: Key, now: float) -> None:
    with service.database.write() as connection:
        keys.note_use(connection, key.id, now)


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
    if (
        origin
        and origin not in service.settings.cors_origins
        and urlsplit(origin).netloc != request.url.netloc
    ):
        raise ForbiddenError(f"requests from pages of {origin} are not allowed; see ZOODIP_CORS_ORIGINS")


@lru_cache(maxsize=1024)
def _name_of(netloc: str) -> str:
    return urlsplit(f"//{netloc}").hostname or ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
