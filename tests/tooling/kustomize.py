"""Renders the manifests of `deploy/kubernetes` without `kustomize`: the fields that they use, and no others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_FIELDS = {"apiVersion", "kind", "resources", "nameSuffix", "labels", "images", "patches"}


def render(folder: Path) -> list[Manifest]:
    """Return the objects of a kustomization.

    Raises:
        ValueError: A field is not supported, or a patch names no object.
        FileNotFoundError: A listed file does not exist.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := kustomization.keys() - _FIELDS:
        raise ValueError(f"{folder}: got {sorted(unknown)}; expected {sorted(_FIELDS)}")
    objects: list[Manifest] = []
    for name in kustomization["resources"]:
        path = folder / name
        objects += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for entry in kustomization.get("patches", ()):
        patch = yaml.safe_load((folder / entry["path"]).read_text())
        targets = [index for index, found in enumerate(objects) if identity(found) == identity(patch)]
        if len(targets) != 1:
            raise ValueError(f"{folder / entry['path']}: got {identity(patch)}; expected one object to patch")
        objects[targets[0]] = _merged(objects[targets[0]], patch)
    objects = copy.deepcopy(objects)  # YAML aliases share labels
    for manifest in objects:
        manifest["metadata"]["name"] += kustomization.get("nameSuffix", "")
        for label in kustomization.get("labels", ()):
            _add_labels(manifest, label["pairs"])
        for container in containers(manifest):
            _set_image(container, kustomization.get("images", ()))
    return objects


def identity(manifest: Manifest) -> tuple[str, str]:
    """Return kind and name."""
    return manifest["kind"], manifest["metadata"]["name"]


def containers(manifest: Manifest) -> list[Manifest]:
    """Return the containers of an object's pods; none if it has no pods."""
    found: list[Manifest] = manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return found


def _merged(base: Any, patch: Any) -> Any:
    """Merge as Kubernetes does: objects by key, lists of containers and variables by name, other lists replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in patch.items()}}
    if isinstance(base, list) and all(isinstance(item, dict) and "name" in item for item in [*base, *patch]):
        changes = {item["name"]: item for item in patch}
        kept = [_merged(item, changes.pop(item["name"], {})) for item in base]
        return [*changes.values(), *kept]
    return patch


def _add_labels(manifest: Manifest, labels: dict[str, str]) -> None:
    manifest["metadata"].setdefault("labels", {}).update(labels)
    spec = manifest["spec"]
    if "selector" in spec:
        spec["selector"]["matchLabels"].update(labels)
    if "template" in spec:
        spec["template"]["metadata"]["labels"].update(labels)


def _set_image(container: Manifest, images: list[dict[str, str]]) -> None:
    for image in images:
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"
