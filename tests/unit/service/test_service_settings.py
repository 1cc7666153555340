"""Service settings from the environment: URLs, lists and errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zoodip_core.errors import InvalidSettingsError
from zoodip_core.service.settings import ServiceSettings


def test_defaults_store_everything_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By default, the database and the objects are in ZOODIP_DATA_DIR."""
    monkeypatch.setenv("ZOODIP_DATA_DIR", str(tmp_path))
    settings = ServiceSettings.from_environment()
    assert settings.database == f"sqlite:///{tmp_path}/zoodip.sqlite3"
    assert settings.object_store == f"file://{tmp_path}/objects"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_each_postgresql_scheme_uses_psycopg(scheme: str) -> None:
    """The service chooses the driver for each spelling of the scheme."""
    assert ServiceSettings(database_url=f"{scheme}://db/zoodip").database == "postgresql+psycopg://db/zoodip"


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable holds all origins, separated by commas."""
    monkeypatch.setenv("ZOODIP_CORS_ORIGINS", "https://a.example, https://b.example")
    assert ServiceSettings.from_environment().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SLOTS", "many"),
        ("LEASE_S", "5"),  # less than two heartbeats of 10 s
        ("LOG_LEVEL", "verbose"),
        ("MAX_FILE_MB", "201"),
        ("DATABASE_URL", "mysql://db/zoodip"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "postgresql://user:secret@db:port/zoodip"),
        ("BROKER_URL", "localhost:6379"),
        ("OBJECT_STORE_URL", "/data"),
    ],
)
def test_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """A bad value gives one error with the name of the variable, and no secret."""
    monkeypatch.setenv(f"ZOODIP_{variable}", value)
    with pytest.raises(InvalidSettingsError, match=f"ZOODIP_{variable}") as error:
        ServiceSettings.from_environment()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SLOTS", "many", "ZOODIP_SLOTS: got 'many'; expected a valid integer"),
        ("PORT", "-1", "ZOODIP_PORT: got '-1'; expected a number greater than or equal to 0"),
        ("LEASE_S", "5", "ZOODIP_LEASE_S: got '5'; expected at least 20, twice ZOODIP_HEARTBEAT_S"),
        (
            "LOG_LEVEL",
            "verbose",
            "ZOODIP_LOG_LEVEL: got 'verbose'; expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        ),
        (
            "DATABASE_URL",
            "postgresql://user:secret@db:port/zoodip",
            "ZOODIP_DATABASE_URL: got a value that is not shown; expected a valid database URL",
        ),
    ],
)
def test_error_message_gives_value_and_expectation(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    """The message gives the value, except for URLs and secrets, and the allowed values."""
    monkeypatch.setenv(f"ZOODIP_{variable}", value)
    with pytest.raises(InvalidSettingsError, match=re.escape(message)):
        ServiceSettings.from_environment()


@pytest.mark.parametrize("name", ["DATABSE_URL", "DATA_DIRR", "LEASES_S"])
def test_a_misspelled_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that would be ignored silently gives one line with the right name."""
    monkeypatch.setenv(f"ZOODIP_{name}", "1")
    with pytest.raises(
        InvalidSettingsError, match=f"^ZOODIP_{name}: got an unknown setting; expected ZOODIP_"
    ):
        ServiceSettings.from_environment()


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "PORT_8000_TCP_ADDR", "PUBLISH", "TEST_DATABASE_URL", "KEY"]
)
def test_other_names_with_the_prefix_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Kubernetes and Compose set variables with the same prefix."""
    monkeypatch.setenv(f"ZOODIP_{name}", "1")
    assert ServiceSettings.from_environment()
