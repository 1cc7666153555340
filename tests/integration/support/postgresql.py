"""Temporary schema in a running PostgreSQL."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

_URL = os.environ.get("ZOODIP_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/test")


def missing(service: str) -> None:
    """Skip the test because a service is missing; fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{service} is not available")
    pytest.skip(f"{service} is not available")


@contextmanager
def postgresql_url() -> Iterator[str]:
    """Create an empty schema, yield its URL and drop it at the end."""
    schema = f"zoodip_{secrets.token_hex(6)}"
    engine = create_engine(_URL.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
    except OperationalError:
        missing("PostgreSQL")
    try:
        yield f"{_URL}?options=-csearch_path%3D{schema}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()
