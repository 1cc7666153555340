"""`zoodip serve`: run the API and one worker; `zoodip migrate`: migrate the database."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.cli.console import say
from zoodip_core.cli.health_probes import api_probe, worker_probe
from zoodip_core.cli.supervisor import Child, Supervisor
from zoodip_core.errors import InvalidInputError
from zoodip_core.service import api_keys
from zoodip_core.service.database import Database
from zoodip_core.service.loopback import is_loopback
from zoodip_core.service.object_store import ObjectStore
from zoodip_core.service.settings import ServiceSettings

_API_GRACE_S = 5.0
_EXTRA_GRACE_S = 5.0  # added to the grace period of the API or worker itself


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: ZOODIP_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on; default: ZOODIP_PORT.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder for the database, images and concepts.")
    ] = None,
) -> None:
    """Run the API and one worker on this machine; `zoodip settings` lists the settings."""
    given = {"HOST": host, "PORT": port, "DATA_DIR": None if data_dir is None else data_dir.absolute()}
    os.environ.update({f"ZOODIP_{name}": str(value) for name, value in given.items() if value is not None})
    settings = ServiceSettings.from_environment()
    prepare(settings)
    _check_port(settings.host, settings.port)
    displayed_host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(
        f"serving http://{displayed_host}:{settings.port}/ (open it in a browser); data folder: {settings.data_dir}"
    )
    Supervisor([_api(settings), _worker(settings)]).run()


def migrate() -> None:
    """Migrate the database schema to this version."""
    settings = ServiceSettings.from_environment()
    database = Database(settings.database)
    database.migrate()
    database.close()
    say("the database is up to date")


def prepare(settings: ServiceSettings) -> None:
    """Create the data folder, migrate the database, store the bootstrap key and validate the settings.

    Raises:
        InvalidInputError: the host is not a loopback address and no API key exists, or the catalog is invalid.
        StorageError: the object store cannot be used.
        OSError: the data folder cannot be created.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    Catalog.load(settings.base_models)
    ObjectStore(settings.object_store)
    database = Database(settings.database)
    database.migrate()
    with database.write() as connection:
        api_keys.ensure_bootstrap_key(connection, settings, time.time())
        protected = api_keys.any_exist(connection)
    database.close()
    if not protected and not is_loopback(settings.host):
        raise InvalidInputError.mismatch(
            "host",
            got=f"{settings.host} without any API key",
            expected="127.0.0.1, or a key created with `zoodip keys create`",
        )
    if not protected:
        say("no API key exists: only requests from this machine are served")


def _child_environment() -> dict[str, str]:
    """Return the environment of this process without empty entries in PYTHONPATH: they mean the working directory."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, entries))}


def _api(settings: ServiceSettings) -> Child:
    # -P keeps the working directory off sys.path: an unrelated api.py there must not run.
    command = [sys.executable, "-P", "-m", "api", "--host", settings.host, "--port", str(settings.port)]
    grace_s = _API_GRACE_S + _EXTRA_GRACE_S
    return Child("the API", command, _child_environment(), grace_s, probe=api_probe(settings))


def _worker(settings: ServiceSettings) -> Child:
    command = [sys.executable, "-P", "-m", "worker"]
    grace_s = settings.drain_s + _EXTRA_GRACE_S
    return Child("the worker", command, _child_environment(), grace_s, probe=worker_probe(settings))


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidInputError.mismatch(
                "port",
                got=f"{host}:{port} ({error.strerror})",
                expected="a free port on an address of this machine",
            ) from error
