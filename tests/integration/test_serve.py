"""`zoodip serve` without Redis or PostgreSQL: restart of processes, orderly stop and configuration errors."""

from __future__ import annotations

import json
import os
import signal
import socket
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
_IMPATIENT = """
from zoodip_core.cli import health_probes, supervisor
health_probes._HTTP_TIMEOUT_S = supervisor.PROBE_EVERY_S = 1.0
supervisor.START_LIMIT_S = 60.0
"""
READY = (200, {"status": "ok", "workers": 1, "waits_for": None})
_COMMAND = "from zoodip_core.cli.main import run; run()"


def _get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, None


def test_serve_restarts_and_stops_api_and_worker(tmp_path: Path) -> None:
    """The service is ready once a worker reports; killed processes restart; SIGTERM leaves no process running."""
    port = free_port()
    environment = {
        **os.environ,
        "ZOODIP_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),  # for the stub engine; the working directory is not on sys.path
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
        wait_until(lambda: _get(port, "/readyz") == READY, "readiness again", 60)
        processes = psutil.Process(serve.pid).children(recursive=True)
        assert len(processes) == 2
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(40) == 0, (tmp_path / "log").read_text()
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in processes)
        assert 'drained": true' in (tmp_path / "log").read_text()
    finally:
        stop(serve)


def _ready_pids(port: int, serve: psutil.Process) -> set[int]:
    wait_until(lambda: _get(port, "/readyz") == READY, "readiness", 90)
    return {child.pid for child in serve.children()}


@pytest.mark.long
def test_serve_restarts_frozen_processes(tmp_path: Path) -> None:
    """A frozen API and a frozen worker are killed and replaced, and the service is ready again."""
    port = free_port()
    environment = {
        **os.environ,
        "ZOODIP_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
        "ZOODIP_ENGINE": STUB,
        "ZOODIP_LEASE_S": "4",
        "ZOODIP_HEARTBEAT_S": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-c", _IMPATIENT + _SERVE, "--port", str(port)]
        serve = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        process = psutil.Process(serve.pid)
        before = _ready_pids(port, process)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        wait_until(
            lambda: not any(psutil.pid_exists(pid) for pid in before), "the end of the frozen ones", 300
        )
        assert len(_ready_pids(port, process)) == 2
    finally:
        stop(serve)


@pytest.mark.parametrize(
    "names",
    [("api.py", "worker.py", "models.py"), ("api/app.py", "worker/__main__.py", "models/__init__.py")],
)
def test_serve_ignores_the_working_directory(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Files that share a name with our packages neither break the service nor run."""
    port, folder = free_port(), tmp_path / "folder"
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    environment = {
        **os.environ,
        "ZOODIP_DATA_DIR": str(tmp_path / "data"),
        "ZOODIP_ENGINE": STUB,
        "PYTHONPATH": f"{os.pathsep}{ROOT}",  # an empty entry means the working directory
    }
    zoodip = [sys.executable, "-P", "-c", _COMMAND]  # as the installed script: without the working directory
    with (tmp_path / "log").open("wb") as log:
        serve = subprocess.Popen(
            [*zoodip, "serve", "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _get(port, "/readyz")[0] == 200, "readiness", 60)
    finally:
        stop(serve)
    assert not (tmp_path / "executed").exists()


def test_serve_rejects_public_hosts_without_keys_and_used_ports(tmp_path: Path) -> None:
    """A host that is not loopback and a port in use each give one message, and no process starts."""
    environment = {**os.environ, "ZOODIP_DATA_DIR": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        for options, message in (
            (["--host", "0.0.0.0"], "host: got 0.0.0.0 without any API key; expected 127.0.0.1"),  # noqa: S104
            (
                ["--port", str(port)],
                f"port: got 127.0.0.1:{port} (Address already in use); expected a free port",
            ),
        ):
            finished = subprocess.run(
                [sys.executable, "-c", _COMMAND, "serve", *options],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert finished.returncode != 0
            assert message in finished.stderr


@pytest.mark.parametrize(
    ("command", "changes", "message"),
    [
        (["migrate"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "the database cannot be used"),
        (["keys", "list"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "the database cannot be used"),
        (["serve"], {"DATA_DIR": "/proc/nope"}, "/proc/nope: No such file"),
        (["serve"], {"BASE_MODELS": "/nope.toml"}, "expected a TOML file (catalog /nope.toml)"),
        (["serve"], {"OBJECT_STORE_URL": "file:///proc/nope"}, "object store: cannot create /proc/nope"),
        (["serve"], {"OBJECT_STORE_URL": "s3://"}, "object store: cannot use s3://"),
        (["settings"], {"DATABASE_URL": "nonsense"}, "ZOODIP_DATABASE_URL"),
    ],
)
def test_a_configuration_error_is_one_line(
    tmp_path: Path, command: list[str], changes: dict[str, str], message: str
) -> None:
    """The command prints one line without a traceback and exits with a code that is not 0."""
    variables = {f"ZOODIP_{name}": value for name, value in {"DATA_DIR": str(tmp_path), **changes}.items()}
    finished = subprocess.run(
        [sys.executable, "-c", _COMMAND, *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode in (1, 2)
    (line,) = finished.stderr.splitlines()
    assert message in line


def test_keys_are_created_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is shown once, lists show only its prefix, and a revoked key has a revocation time."""
    monkeypatch.setenv("ZOODIP_DATA_DIR", str(tmp_path))
    run = CliRunner()
    created = json.loads(run.invoke(keys, ["create", "--name", "laptop", "--scope", "read", "--json"]).stdout)
    assert created["key"].startswith("zd_")
    assert created["webhook_secret"].startswith("whsec_")
    assert run.invoke(keys, ["revoke", created["id"]]).exit_code == 0
    shown = run.invoke(keys, ["list"]).stdout.splitlines()
    assert (
        sum(created["id"] in line and "laptop" in line for line in shown) == 1
    )  # a key is on one line, for grep
    listed = run.invoke(keys, ["list", "--json"]).stdout
    (row,) = json.loads(listed)["keys"]
    assert created["key"] not in listed
    assert row["prefix"] == created["key"][:9] + "…"
    assert row["revoked_at"]
    rotated = json.loads(run.invoke(keys, ["rotate-webhook-secret", created["id"], "--json"]).stdout)
    assert rotated["webhook_secrets"][1] == created["webhook_secret"]


def test_settings_are_listed_with_masked_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is listed with its meaning; passwords and keys are masked."""
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
