"""`zoodip keys create|list|revoke|rotate-webhook-secret`: manage API keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy import Connection

from zoodip_core.cli.console import print_json, print_table, say
from zoodip_core.cli.options import JsonOption
from zoodip_core.service import api_keys as store
from zoodip_core.service.database import Database
from zoodip_core.service.quotas import Quotas
from zoodip_core.service.settings import ServiceSettings

keys = typer.Typer(name="keys", help="Manage the API keys of the service.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Key id as shown by `zoodip keys list`.")]


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Name that describes the purpose of the key.")],
    owner: Annotated[
        str | None,
        typer.Option(help="Keys of one owner share jobs and concepts; default: a new owner."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, write or admin (/metrics); may be repeated; default: read and write."),
    ] = None,
    max_active_jobs: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of unfinished jobs; default: no limit.")
    ] = None,
    max_concepts: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of stored concepts; default: no limit.")
    ] = None,
    rate_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of requests per minute; default: no limit.")
    ] = None,
    max_evaluations_per_day: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum U-Net evaluations on a UTC day; default: that of the settings."),
    ] = None,
    max_seconds_per_day: Annotated[
        float | None,
        typer.Option(
            min=1, help="Maximum seconds of engine time on a UTC day; default: that of the settings."
        ),
    ] = None,
    max_images_per_day: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum generated images on a UTC day; default: that of the settings."),
    ] = None,
    max_stored_mb: Annotated[
        float | None, typer.Option(min=1, help="Maximum MB of stored objects; default: that of the settings.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key; its secret is shown only once."""
    secret = store.new_secret()
    with _database() as connection:
        key = store.create(
            connection,
            secret,
            time.time(),
            name=name,
            owner=owner,
            scopes=tuple(scope or ("read", "write")),
            max_active_jobs=max_active_jobs,
            max_concepts=max_concepts,
            rate_per_minute=rate_per_minute,
            quotas=Quotas(
                max_evaluations_per_day=max_evaluations_per_day,
                max_seconds_per_day=max_seconds_per_day,
                max_images_per_day=max_images_per_day,
                max_stored_mb=max_stored_mb,
            ),
        )
    shown = {"id": key.id, "owner": key.owner, "key": secret, "webhook_secret": key.webhook_secrets[0]}
    if as_json:
        print_json(shown)
        return
    say("Store these values now; the key is not shown again:")
    print_table(["", ""], [[label, value] for label, value in shown.items()])


@keys.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """List all keys without their secrets."""
    with _database() as connection:
        all_keys = store.list_all(connection)
    rows = [
        {
            "id": key.id,
            "prefix": f"{key.prefix}…",
            "name": key.name,
            "owner": key.owner,
            "scopes": " ".join(key.scopes),
            "last_used_at": _time(key.last_used_at),
            "revoked_at": _time(key.revoked_at),
        }
        for key in all_keys
    ]
    if as_json:
        print_json({"keys": rows})
    else:
        columns = ["id", "prefix", "name", "owner", "scopes", "last_used_at", "revoked_at"]
        print_table(columns, [[str(row[column] or "") for column in columns] for row in rows])


@keys.command()
def revoke(key_id: KeyId) -> None:
    """Revoke a key."""
    with _database() as connection:
        key = store.revoke(connection, key_id, time.time())
    say(f"{key.id} ({key.name}) is revoked")


@keys.command()
def rotate_webhook_secret(key_id: KeyId, as_json: JsonOption = False) -> None:
    """Create a new signing secret; the old secret also signs until the next rotation."""
    with _database() as connection:
        key = store.rotate_webhook_secret(connection, key_id)
    if as_json:
        print_json({"id": key.id, "webhook_secrets": key.webhook_secrets})
    else:
        print_table(
            ["secret", "signs"], [[s, "new" if k == 0 else "old"] for k, s in enumerate(key.webhook_secrets)]
        )


@contextmanager
def _database() -> Iterator[Connection]:
    database = Database(ServiceSettings.from_environment().database)
    database.migrate()
    with database.write() as connection:
        yield connection
    database.close()


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
