"""Everything that a service process writes is JSON: logs of libraries, warnings, tracebacks, failed starts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.support.workers import ROOT, environment
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

_OUTPUT = """
import asyncio, logging, threading, warnings
logging.getLogger("library").addHandler(logging.StreamHandler())
from zoodip_core.service.logs import configure_process_logs
configure_process_logs("INFO")
logging.getLogger("library").warning("two\\nlines of %s", "text", extra={"private": "prompt"})
for name in ("uvicorn.error", "celery", "alembic", "asyncio"):
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger(name).exception("failed")
warnings.warn("old function", DeprecationWarning, stacklevel=1)
warnings.warn("strange value", RuntimeWarning, stacklevel=1)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Broken:
    def __del__(self):
        raise ArithmeticError("in a destructor")
Broken()
raise ValueError("the last words")
"""


def _run(
    *command: str, settings: ServiceSettings | None = None, **extra: str
) -> tuple[int, list[dict[str, Any]]]:
    """Run a Python process; return its exit code and its output, which must be JSON."""
    variables = None if settings is None else environment(settings, **extra)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_all_output_is_json() -> None:
    """Records, tracebacks and warnings of libraries and uncaught exceptions are one JSON object each."""
    code, lines = _run("-c", _OUTPUT)
    events = [line["event"] for line in lines]
    assert code == 1
    assert events[0] == "two\nlines of text"
    assert (lines[0]["logger"], lines[0]["level"], "timestamp" in lines[0]) == ("library", "warning", True)
    assert [line["logger"] for line in lines[1:5]] == ["uvicorn.error", "celery", "alembic", "asyncio"]
    assert all("ZeroDivisionError" in line["exception"] for line in lines[1:5])
    assert "RuntimeWarning: strange value" in events[-4]
    assert events[-3:] == ["uncaught_exception"] * 3
    assert "in a destructor" in lines[-2]["exception"]
    assert "the last words" in lines[-1]["exception"]
    assert "prompt" not in json.dumps(lines)


@pytest.fixture
def newer(settings: ServiceSettings) -> ServiceSettings:
    """Settings of a service whose database a newer version has migrated."""
    database = Database(settings.database)
    database.migrate()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    return settings


@pytest.mark.parametrize("module", ["api", "worker"])
def test_newer_database_stops_the_start(newer: ServiceSettings, module: str) -> None:
    """The process exits with one error that names both schemas."""
    code, lines = _run("-m", module, settings=newer)
    (failed,) = [line for line in lines if line["level"] == "error"]
    assert (code, failed["event"]) == (1, "startup_failed")
    assert failed["error"].startswith("database: got the unknown schema 9999, which a newer version")
    assert "exception" not in failed


@pytest.mark.parametrize("command", ["migrate", "serve", "keys list"])
def test_commands_refuse_a_newer_database(newer: ServiceSettings, command: str) -> None:
    """The command exits with 2 and one line."""
    run = (
        f"import sys; sys.argv = ['zoodip', *{command.split()}]; from zoodip_core.cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", run],
        env=environment(newer),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "got the unknown schema 9999" in done.stderr


@pytest.mark.parametrize("module", ["api", "worker"])
def test_invalid_setting_stops_the_start(settings: ServiceSettings, module: str) -> None:
    """The process exits with one error that names the variable."""
    code, lines = _run("-m", module, settings=settings, ZOODIP_PORT="eighty")
    assert code == 1
    assert [line["event"] for line in lines] == ["startup_failed"]
    assert lines[0]["error"].startswith("ZOODIP_PORT: got 'eighty'")
