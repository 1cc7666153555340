"""Fixtures: both databases, a catalog of tiny models, settings and an API client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from tests.integration.support.postgresql import postgresql_url
from tests.integration.support.servers import shared_redis_url
from tests.tooling.models import build_family
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"
        return
    with postgresql_url() as url:
        yield url


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """Migrated database."""
    database = Database(ServiceSettings(data_dir=tmp_path, database_url=database_url).database)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Catalog whose default is a narrow SD1 with random weights, 64 px and a small vocabulary."""
    folder = tmp_path_factory.mktemp("catalog")
    build_family(folder / "tiny", "sd1")
    build_family(folder / "other", "sd1", seed=1)
    path = folder / "catalog.toml"
    path.write_text(
        '[[base_models]]\nname = "tiny"\npath = "tiny"\nprecision = "fp32"\ndefault = true\nsteps = 3\n'
        "[base_models.settings]\nsteps = 30\nn = 1\nmeasure_every = 10\ncheckpoint_every = 10\nfixed_rows = 4\n"
        '[[base_models]]\nname = "other"\npath = "other"\nprecision = "fp32"\nsteps = 3\n'
    )
    return path


@pytest.fixture
def broker_url(database_url: str) -> str | None:
    """Broker of the two deployments: Redis with PostgreSQL, a folder with SQLite."""
    return shared_redis_url() if database_url.startswith("postgresql") else None


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str | None, catalog: Path) -> ServiceSettings:
    """Settings of a separate service: data folder, database, broker, catalog."""
    return ServiceSettings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        broker_url=broker_url,
        base_models=catalog,
        webhook_secrets=("whsec_" + "c2VjcmV0" * 4,),
        log_level="ERROR",
    )


@pytest.fixture
def client(settings: ServiceSettings) -> Iterator[TestClient]:
    """Client of an API in this process that calls from the loopback address."""
    with TestClient(
        create_app(settings),
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 1),
        raise_server_exceptions=False,
    ) as client:
        yield client
