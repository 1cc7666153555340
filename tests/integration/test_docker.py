"""Dockerfiles and Compose file, tested without Docker: lint, run the COPY and pip lines, run the commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from tests.integration.support.processes import free_port, server
from tests.integration.support.workers import ROOT, environment
from zoodip_core.service.settings import ServiceSettings

DOCKERFILES = ("api", "worker")


def in_ci(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test only in CI, because it installs all packages, which takes minutes."""
    skip = pytest.mark.skipif(
        os.environ.get("CI") != "true", reason="installs all packages, which takes minutes; runs in CI"
    )
    return pytest.mark.long(pytest.mark.timeout(1500)(skip(test)))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """URL of the default SQLite database."""
    return f"sqlite:///{tmp_path / 'zoodip.sqlite3'}"


def _instructions(name: str) -> list[tuple[str, str]]:
    text = (ROOT / f"docker/{name}.Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def _install(name: str, folder: Path, arguments: dict[str, str]) -> Path:
    """Run the COPY and pip lines of a Dockerfile in an empty folder. Return the path of its Python."""
    work, venv = folder / "work", folder / "venv"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    path = f"{venv / 'bin'}:{os.environ['PATH']}"
    for word, rest in _instructions(name):
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, work / target)
        elif word == "RUN" and rest.startswith("pip "):
            # Python compiles what it imports, so compiling all packages would only take time.
            variables = {**os.environ, **arguments, "PATH": path, "PIP_COMPILE": "0"}
            done = subprocess.run(
                ["bash", "-c", rest], cwd=work, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
    return venv / "bin/python"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _command(name: str) -> list[str]:
    (command,) = [rest for word, rest in _instructions(name) if word == "CMD"]
    return [str(word) for word in json.loads(command)]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfile_passes_hadolint(name: str) -> None:
    """Hadolint finds nothing. The image runs as a numeric user other than root and has a health check."""
    linter = Path(sys.executable).with_name("hadolint")
    config = ["-c", str(ROOT / "docker/.hadolint.yaml")]
    linted = subprocess.run(
        [linter, *config, ROOT / f"docker/{name}.Dockerfile"], capture_output=True, check=False
    )
    assert linted.returncode == 0, linted.stdout.decode()
    words = dict(_instructions(name))
    assert int(words["USER"]) > 0
    assert "HEALTHCHECK" in words


@in_ci
def test_api_image_can_run_its_command(tmp_path: Path, settings: ServiceSettings) -> None:
    """In an empty folder and virtual environment, the COPY and pip lines suffice to serve, without torch."""
    python = _install("api", tmp_path, {})
    port = str(free_port())
    command = [port if word == "8000" else word for word in _command("api")]
    command = [str(python), *command[1:]]
    variables = {**environment(settings), "PYTHONPATH": ""}
    with server(command, int(port), tmp_path / "log", cwd=tmp_path / "work", env=variables):
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as response:
            assert response.status == 200
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0


@in_ci
def test_worker_image_can_run_its_command(tmp_path: Path, settings: ServiceSettings) -> None:
    """In an empty folder and virtual environment, the COPY and pip lines suffice to import the worker."""
    import torch

    python = _install("worker", tmp_path, {"TORCH_VERSION": torch.__version__, "TORCH_INDEX": ""})
    variables = {**environment(settings), "PYTHONPATH": ""}
    imported = "import worker.diffusion_engine, worker.health; print(worker.__file__)"
    done = subprocess.run(
        [python, "-c", imported], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(tmp_path / "venv") in done.stdout
    assert _command("worker") == ["python", "-m", "worker"]
    assert (python.parent / "zoodip").is_file()


def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def _validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Validate a file with the JSON schema of the Compose Specification, which the checker contains."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", "vendor.compose-spec", file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compose_follows_its_specification(tmp_path: Path) -> None:
    """The file is valid, including merged keys. A copy with a misspelled key is not."""
    valid = _validate(ROOT / "docker-compose.yml")
    assert valid.returncode == 0, valid.stdout
    text = (ROOT / "docker-compose.yml").read_text()
    assert text.count("stop_grace_period:") == 1
    (tmp_path / "misspelled.yml").write_text(text.replace("stop_grace_period:", "stop_grace_time:"))
    misspelled = _validate(tmp_path / "misspelled.yml")
    assert misspelled.returncode == 1
    assert "services.worker: Unevaluated properties are not allowed ('stop_grace_time'" in misspelled.stdout


def test_compose_references_exist() -> None:
    """Referenced Dockerfiles, volumes, services and settings exist. Profiles, grace period and ports are right."""
    composed = _compose()
    services = composed["services"]
    assert set(services) == {"api", "worker", "worker-gpu", "redis", "postgres"}
    known = {f"ZOODIP_{name.upper()}" for name in ServiceSettings.model_fields}
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed]
        assert {v for v in service.get("environment", {}) if v.startswith("ZOODIP_")} <= known
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in composed["volumes"]
        if "build" in service:
            assert service["env_file"] == [{"path": "zoodip.env", "required": False}]
            assert {"data:/data", "models:/models"} <= set(service["volumes"])
    assert services["worker"]["profiles"] == ["cpu"]
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    grace = float(re.sub(r"\D", "", services["worker"]["stop_grace_period"]))
    assert grace > ServiceSettings.model_fields["drain_s"].default
    assert services["api"]["ports"] == ["${ZOODIP_PUBLISH:-127.0.0.1:8000}:8000"]


def test_redis_persists_data_and_evicts_nothing(tmp_path: Path) -> None:
    """The command of the Redis service enables the append-only file and the policy `noeviction`."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [*_compose()["services"]["redis"]["command"], "--port", str(port), "--dir", str(tmp_path)]
    with server(command, port, tmp_path / "log"):
        client = redis.Redis(port=port, decode_responses=True)
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.close()


def test_worker_health_check_fails_without_a_worker(settings: ServiceSettings) -> None:
    """The health check of the worker image exits with 1 if no worker runs."""
    (check,) = [rest for word, rest in _instructions("worker") if word == "HEALTHCHECK"]
    command = json.loads(check[check.index("[") :])
    assert shlex.join(command) == "python -m worker.health"
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, env=environment(settings), check=False)
    assert done.returncode == 1
