"""`zoodip serve` on a bare machine: no Redis, no PostgreSQL, processes that come back and go in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.integration.support.processes import free_port, stop, wait_until
from tests.integration.support.workers import ROOT, STUB
from zoodip_core.cli.keys import keys
from zoodip_core.cli.settings import settings as settings_command

_SERVE = "import typer; from zoodip_core.cli.serve import serve; typer.run(serve)"
_COMMAND = "from zoodip_core.cli.main import run; run()"


def _get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, None


def test_serve_keeps_api_and_worker_alive_and_stops_them(tmp_path: Path) -> None:
    """Ready once a worker consumes; a killed API and a killed worker come back; SIGTERM leaves nothing running."""
    port = free_port()
    environment = {
        **os.environ,
        "ZOODIP_DATA_DIR": str(tmp_path / "data"),
        "ZOODIP_ENGINE": STUB,
        "ZOODIP_LEASE_S": "2",
        "ZOODIP_HEARTBEAT_S": "0.5",
    }
    with (tmp_path / "log").open("wb") as log:
        serve = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _get(port, "/readyz")[0] == 200, "readiness", 60)
        children = psutil.Process(serve.pid).children()
        assert {os.getsid(child.pid) for child in children} == {os.getsid(0)}
        for child in children:
            child.kill()
        wait_until(
            lambda: _get(port, "/readyz") == (200, {"status": "ok", "workers": 1}), "readiness again", 60
        )
        family = psutil.Process(serve.pid).children(recursive=True)
        assert len(family) == 2
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(40) == 0, (tmp_path / "log").read_text()
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)
        assert 'drained": true' in (tmp_path / "log").read_text()
    finally:
        stop(serve)


def test_a_service_without_keys_does_not_open_to_the_network(tmp_path: Path) -> None:
    """A host that is not loopback, a port in use: one message each, and nothing is started."""
    environment = {**os.environ, "ZOODIP_DATA_DIR": str(tmp_path)}
    for options, message in ((["--host", "0.0.0.0"], "no API key"), (["--port", "6379"], "cannot be used")):  # noqa: S104
        refused = subprocess.run(
            [sys.executable, "-c", _SERVE, *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode != 0
        assert message in refused.stderr


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        (["migrate"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "the database cannot be used"),
        (["keys", "list"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "the database cannot be used"),
        (["serve"], {"DATA_DIR": "/proc/nope"}, "/proc/nope: No such file"),
        (["serve"], {"BASE_MODELS": "/nope.toml"}, "/nope.toml: cannot be read"),
        (["serve"], {"OBJECT_STORE_URL": "file:///proc/nope"}, "object store: cannot create /proc/nope"),
        (["serve"], {"OBJECT_STORE_URL": "s3://"}, "object store: cannot use s3://"),
        (["settings"], {"DATABASE_URL": "nonsense"}, "ZOODIP_DATABASE_URL"),
    ],
)
def test_what_a_deployment_got_wrong_is_one_line(
    tmp_path: Path, command: list[str], changes: dict[str, str], message: str
) -> None:
    """A message and an exit code, no traceback, and nothing is started."""
    given = {f"ZOODIP_{name}": value for name, value in {"DATA_DIR": str(tmp_path), **changes}.items()}
    refused = subprocess.run(
        [sys.executable, "-c", _COMMAND, *command],
        cwd=ROOT,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode in (1, 2)
    (line,) = refused.stderr.splitlines()
    assert message in line


def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret shows once; lists have its prefix only; a revoked key is marked."""
    monkeypatch.setenv("ZOODIP_DATA_DIR", str(tmp_path))
    run = CliRunner()
    made = json.loads(run.invoke(keys, ["create", "--name", "laptop", "--scope", "read", "--json"]).stdout)
    assert made["key"].startswith("zd_")
    assert made["webhook_secret"].startswith("whsec_")
    assert run.invoke(keys, ["revoke", made["id"]]).exit_code == 0
    shown = run.invoke(keys, ["list"]).stdout.splitlines()
    assert sum(made["id"] in line and "laptop" in line for line in shown) == 1  # one line, to be grepped
    listed = run.invoke(keys, ["list", "--json"]).stdout
    (row,) = json.loads(listed)["keys"]
    assert made["key"] not in listed
    assert row["prefix"] == made["key"][:9] + "…"
    assert row["revoked_at"]
    rotated = json.loads(run.invoke(keys, ["rotate-webhook-secret", made["id"], "--json"]).stdout)
    assert rotated["webhook_secrets"][1] == made["webhook_secret"]


def test_settings_are_listed_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable with its meaning; passwords and keys are masked."""
    monkeypatch.setenv("ZOODIP_DATABASE_URL", "postgresql://user:sec?secret@db/zoodip?password=secret")
    monkeypatch.setenv("ZOODIP_BOOTSTRAP_KEY", "zd_secret")
    command = Typer()
    command.command()(settings_command)
    shown = CliRunner().invoke(command, ["--json"]).stdout
    rows = {row["variable"]: row for row in json.loads(shown)["settings"]}
    assert rows["ZOODIP_DATABASE_URL"]["value"] == "postgresql://…@db/zoodip?…"
    assert rows["ZOODIP_BOOTSTRAP_KEY"]["value"] == "(set)"
    assert "secret" not in shown.replace("WEBHOOK_SECRETS", "")
    assert all(row["meaning"] for row in rows.values())
