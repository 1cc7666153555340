"""Kubernetes manifests, tested without a cluster against the schemas of Kubernetes and the service's settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from tests.tooling.kustomize import Manifest, containers, identity, render
from zoodip_core.service.database import Database
from zoodip_core.service.jobs.states import Status
from zoodip_core.service.settings import ServiceSettings

ROOT = Path(__file__).parents[3]
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
KUBERNETES_VERSIONS = ("1.30", "1.37")
SECRETS = {
    "database-url": "postgresql://zoodip:secret@db.example/zoodip",
    "broker-url": "redis://redis.example:6379/0",
    "bootstrap-key": "zd_0123456789abcdefghijkl",
}


@pytest.fixture(params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> str:
    """Return the name of each overlay in turn."""
    return str(request.param)


@pytest.fixture
def manifests(overlay: str) -> list[Manifest]:
    """Return the objects of an overlay."""
    return render(OVERLAYS / overlay)


def _of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    found = [manifest for manifest in manifests if manifest["kind"] in kinds]
    assert found
    return found


def _pods(manifests: list[Manifest]) -> list[Manifest]:
    return [manifest["spec"]["template"] for manifest in _of_kind(manifests, "Deployment", "Job")]


def _workers(manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in _of_kind(manifests, "Deployment") if m["metadata"]["name"] != "zoodip-api"]


def _variables(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """Return the environment of a container, with examples of secrets."""
    maps = {m["metadata"]["name"]: m["data"] for m in _of_kind(manifests, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            variables |= maps[source["configMapRef"]["name"]]
    for variable in container.get("env", ()):
        name = variable["name"]
        if "valueFrom" in variable:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "zoodip"
            variables[name] = SECRETS[reference["key"]]
        else:
            variables[name] = variable["value"]
    return variables


def _settings(
    container: Manifest, manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    variables = _variables(container, manifests)
    known = {f"ZOODIP_{name.upper()}" for name in ServiceSettings.model_fields}
    assert {name for name in variables if name.startswith("ZOODIP_")} <= known
    with monkeypatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        return ServiceSettings.from_environment()


def _is_subset(part: dict[str, str], whole: dict[str, str]) -> bool:
    return part.items() <= whole.items()


def test_rendered_as_by_kustomize(overlay: str, manifests: list[Manifest]) -> None:
    """`kubectl kustomize` renders the same objects."""
    tool = shutil.which("kubectl")
    if tool is None:
        pytest.skip("needs kubectl")
    command = [tool, "kustomize", str(OVERLAYS / overlay)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = {identity(manifest): manifest for manifest in yaml.safe_load_all(done.stdout)}
    assert {identity(manifest): manifest for manifest in manifests} == expected


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_objects_follow_the_schemas(manifests: list[Manifest], version: str) -> None:
    """Each object of Kubernetes is valid; a misspelled field is not."""
    for manifest in manifests:
        if manifest["kind"] != "ScaledObject":
            kubernetes_validate.validate(manifest, version, strict=True)
    pod = _pods(manifests)[0]["spec"]
    pod["terminationGracePeriod"] = pod.pop("terminationGracePeriodSeconds", 30)
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(_of_kind(manifests, "Deployment", "Job")[0], version, strict=True)


def test_scaled_objects_follow_the_documentation_of_keda(manifests: list[Manifest]) -> None:
    """The fields are KEDA's, and the behavior is valid in the HorizontalPodAutoscaler that KEDA creates from it."""
    deployments = {m["metadata"]["name"] for m in _workers(manifests)}
    targets = []
    for scaled in _of_kind(manifests, "ScaledObject"):
        spec = scaled["spec"]
        assert scaled["apiVersion"] == "keda.sh/v1alpha1"
        numbers = {"pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount"}
        assert spec.keys() == {"scaleTargetRef", "advanced", "triggers"} | numbers
        assert all(isinstance(spec[name], int) for name in numbers)
        assert spec["minReplicaCount"] < spec["maxReplicaCount"]
        autoscaler = spec["advanced"]["horizontalPodAutoscalerConfig"]
        assert (spec["advanced"].keys(), autoscaler.keys()) == (
            {"horizontalPodAutoscalerConfig"},
            {"behavior"},
        )
        assert 0 < autoscaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] <= 3600
        created = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "keda-hpa"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
                "maxReplicas": spec["maxReplicaCount"],
                "behavior": autoscaler["behavior"],
            },
        }
        kubernetes_validate.validate(created, KUBERNETES_VERSIONS[-1], strict=True)
        targets.append(spec["scaleTargetRef"]["name"])
    assert sorted(targets) == sorted(deployments)
    minimums = [m["spec"]["minReplicaCount"] for m in _of_kind(manifests, "ScaledObject")]
    assert sum(minimums) >= 1  # without a worker, /readyz fails and the API gets no requests


def test_triggers_count_unfinished_jobs(manifests: list[Manifest], tmp_path: Path) -> None:
    """The query counts queued and running jobs; the first class has a worker for each full batch."""
    database = Database(f"sqlite:///{tmp_path / 'zoodip.sqlite3'}")
    database.migrate()
    slots = int(_of_kind(manifests, "ConfigMap")[0]["data"]["ZOODIP_SLOTS"])
    thresholds = []
    workers = {m["metadata"]["name"]: m for m in _workers(manifests)}
    for scaled in _of_kind(manifests, "ScaledObject"):
        (trigger,) = scaled["spec"]["triggers"]
        metadata: dict[str, Any] = trigger["metadata"]
        fields = {"connectionFromEnv", "query", "targetQueryValue", "activationTargetQueryValue"}
        assert (trigger.keys(), trigger["type"]) == ({"type", "metadata"}, "postgresql")
        assert metadata.keys() <= fields
        assert all(isinstance(value, str) for value in metadata.values())
        (container,) = containers(workers[scaled["spec"]["scaleTargetRef"]["name"]])
        assert metadata["connectionFromEnv"] in _variables(container, manifests)
        assert f"'{Status.QUEUED}', '{Status.RUNNING}'" in metadata["query"]
        with database.read() as connection:
            assert connection.execute(text(metadata["query"])).scalar_one() == 0
        thresholds.append(int(metadata["targetQueryValue"]))
    database.close()
    assert min(thresholds) == slots


def test_settings_are_those_of_the_service(
    manifests: list[Manifest], overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variable is a setting with a value that the service accepts. A worker can drain before it is killed."""
    for manifest in _of_kind(manifests, "Deployment", "Job"):
        (container,) = containers(manifest)
        settings = _settings(container, manifests, monkeypatch)
        assert settings.database.startswith("postgresql+psycopg://")
        if manifest in _workers(manifests):
            assert settings.device == {"cpu": "cpu", "gpu": "cuda"}[overlay]
            assert manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > settings.drain_s
            limits = container["resources"]["limits"]
            assert limits.get("nvidia.com/gpu", 0) == {"cpu": 0, "gpu": 1}[overlay]


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    """Pods follow the Pod Security Standard `restricted`, write to volumes only, and get no variables of Services."""
    for pod in _pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert mounts.keys() == volumes.keys()
        assert (mounts.pop("tmp"), volumes["tmp"]["emptyDir"]) == ("/tmp", {})  # noqa: S108 (in the container)
        assert mounts == ({} if container["name"] == "migrate" else {"data": "/data"})
        claims = {m["metadata"]["name"] for m in _of_kind(manifests, "PersistentVolumeClaim")}
        assert all(volumes[name]["persistentVolumeClaim"]["claimName"] in claims for name in mounts)


def test_user_and_commands_are_those_of_the_images(manifests: list[Manifest]) -> None:
    """The user, the port and the health checks are those of the Dockerfiles."""
    worker_file = (ROOT / "docker/worker.Dockerfile").read_text()
    api_file = (ROOT / "docker/api.Dockerfile").read_text()
    assert "USER 10001" in worker_file
    assert "USER 10001" in api_file
    deployments = {m["metadata"]["name"]: containers(m)[0] for m in _of_kind(manifests, "Deployment")}
    api = deployments.pop("zoodip-api")
    assert f"EXPOSE {api['ports'][0]['containerPort']}" in api_file
    assert api["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert api["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert deployments
    for worker in deployments.values():
        assert worker["readinessProbe"]["exec"]["command"] == ["python", "-m", "worker.health"]
        assert 'CMD ["python", "-m", "worker.health"]' in worker_file


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    """Each selector finds a pod; each Deployment finds only its own, and each network policy covers pods."""
    pods = [pod["metadata"]["labels"] for pod in _pods(manifests)]
    for deployment in _of_kind(manifests, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert [labels for labels in pods if _is_subset(selector, labels)] == [
            deployment["spec"]["template"]["metadata"]["labels"]
        ]
    budgets = [m["spec"]["selector"]["matchLabels"] for m in _of_kind(manifests, "PodDisruptionBudget")]
    assert len(budgets) == len(_of_kind(manifests, "Deployment"))
    services = [m["spec"]["selector"] for m in _of_kind(manifests, "Service")]
    policies = [m["spec"]["podSelector"]["matchLabels"] for m in _of_kind(manifests, "NetworkPolicy")]
    for selector in [*budgets, *services, *policies]:
        assert any(_is_subset(selector, labels) for labels in pods)
    assert all(any(_is_subset(selector, labels) for selector in policies) for labels in pods)


def test_no_secret_is_in_the_manifests() -> None:
    """The folder contains references to Secrets, and no Secret."""
    for file in (ROOT / "deploy/kubernetes").rglob("*.yaml"):
        assert all(manifest["kind"] != "Secret" for manifest in yaml.safe_load_all(file.read_text()))
