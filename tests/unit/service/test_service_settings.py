"""Settings from the environment: URLs in use, lists, and mistakes that name their variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoodip_core.errors import InvalidSettingsError
from zoodip_core.service.settings import ServiceSettings


def test_the_embedded_default_is_all_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Database and objects are below ZOODIP_DATA_DIR when nothing else is said."""
    monkeypatch.setenv("ZOODIP_DATA_DIR", str(tmp_path))
    settings = ServiceSettings.from_environment()
    assert settings.database == f"sqlite:///{tmp_path}/zoodip.sqlite3"
    assert settings.object_store == f"file://{tmp_path}/objects"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_any_spelling_of_postgresql_will_do(scheme: str) -> None:
    """The driver is ours to choose."""
    assert ServiceSettings(database_url=f"{scheme}://db/zoodip").database == "postgresql+psycopg://db/zoodip"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins and secrets come as one variable each."""
    monkeypatch.setenv("ZOODIP_CORS_ORIGINS", "https://a.example, https://b.example")
    assert ServiceSettings.from_environment().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLOTS", "many"),
        ("LEASE_S", "5"),  # a heartbeat comes every 10 s
        ("LOG_LEVEL", "verbose"),
        ("MAX_FILE_MB", "20"),
        ("DATABASE_URL", "mysql://db/zoodip"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "postgresql://user:secret@db:port/zoodip"),
        ("BROKER_URL", "localhost:6379"),
        ("OBJECT_STORE_URL", "/data"),
    ],
)
def test_a_mistake_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """A value of the wrong kind, or one with which the service could not run, is one clear error."""
    monkeypatch.setenv(f"ZOODIP_{variable}", value)
    with pytest.raises(InvalidSettingsError, match=f"ZOODIP_{variable}") as error:
        ServiceSettings.from_environment()
    assert "secret" not in str(error.value)
