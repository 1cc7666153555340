"""Without the `service` extra, engine commands work, and service commands name the missing package."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "alembic celery fastapi fastapi_offline kombu obstore prometheus_client psycopg pydantic_settings "
    "python_multipart redis sqlalchemy starlette structlog uvicorn"
)
SCRIPT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in "{MODULES}".split():
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from zoodip_core.cli.main import run
sys.argv[0] = "zoodip"
run()
"""


def _zoodip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["--help"], "personalize"), (["models"], "emoji"), (["personalize", "--help"], "--initializer")],
)
def test_engine_commands_work_without_service_packages(arguments: list[str], shown: str) -> None:
    """Help, the list of base models and the options of `personalize` are printed."""
    done = _zoodip(*arguments)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--port", "8001"], ["worker"], ["settings", "--json"], ["keys", "create", "--name", "a"]],
)
def test_service_commands_say_what_to_install(arguments: list[str]) -> None:
    """One line names the command, the missing module and the installation command."""
    done = _zoodip(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: zoodip {arguments[0]}: got no module '")
    assert line.endswith("expected the service packages: pip install 'zoodip[service]'")
