"""Base models on the Hugging Face Hub: choice of files, download, and use without network afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zoodip_core.base_models.families import detect_family, network_parts
from zoodip_core.base_models.safety_checker import PART as SAFETY_CHECKER
from zoodip_core.base_models.safety_checker import PROCESSOR, safety_checker_files, ships_safety_checker
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.errors import InvalidModelError

MAIN = "main"
"""Revision that is used if none is given."""

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_SMALL_FILES = (
    "model_index.json",
    "LICENSE*",
    *(f"{part}/*config.json" for part in (*_PARTS, "scheduler")),
    *(f"tokenizer{suffix}/*.{kind}" for suffix in ("", "_2") for kind in ("json", "txt")),
)
_SMALL_SAFETY_FILES = (f"{SAFETY_CHECKER}/config.json", f"{PROCESSOR}/preprocessor_config.json")
_OTHER_COPIES = ("*non_ema*", "*flax*", "*openvino*", "*onnx*", "*/*/*")
_HALF = "fp16"


@dataclass(frozen=True)
class Snapshot:
    """One revision of a repository, its commit, and the sizes in bytes of the files that a base model needs."""

    hub_id: str
    revision: str
    commit: str
    sizes: Mapping[str, int]


def cached_snapshot(hub_id: str, revision: str | None) -> Path | None:
    """Return the folder of a base model that was downloaded completely, or None. Uses no network."""
    index = try_to_load_from_cache(hub_id, "model_index.json", revision=revision or MAIN)
    if not isinstance(index, str):
        return None
    folder = Path(index).parent
    try:
        for part in network_parts(detect_family(folder)):
            weight_files(folder / part)
    except InvalidModelError:
        return None
    return folder


def find_snapshot(
    hub_id: str, revision: str | None, variant: str | None, *, safety_checker: bool = False
) -> Snapshot:
    """Look up a base model on the hub and choose its files.

    Args:
        hub_id: `owner/name`.
        revision: branch, tag or commit; None for `main`.
        variant: "fp16" for the files in half precision; None prefers full precision, part by part.
        safety_checker: whether to include the safety checker, in half precision if there is such a file.

    Raises:
        InvalidModelError: the repository or revision does not exist, is not accessible, or holds no such model.
    """
    with _HubErrors(hub_id, revision):
        info = HfApi().model_info(hub_id, revision=revision or MAIN, files_metadata=True)
    assert info.sha is not None, "the hub names the commit of a revision"
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    names = choose_files(hub_id, sizes, variant, safety_checker=safety_checker)
    return Snapshot(hub_id, revision or MAIN, info.sha, {name: sizes[name] for name in names})


def download(snapshot: Snapshot) -> Path:
    """Download the files of a base model that are not here yet, and return their folder.

    Progress is shown on stderr. A broken connection is resumed where it broke, several times. A later call downloads
    only the files that are still missing.

    Raises:
        InvalidModelError: access is denied, the disk is too small, or the connection fails repeatedly.
    """
    _check_space(snapshot)
    with _HubErrors(snapshot.hub_id, snapshot.revision):
        folder = snapshot_download(  # by its name, so that the cache finds the revision without network
            snapshot.hub_id, revision=snapshot.revision, allow_patterns=list(snapshot.sizes)
        )
    return Path(folder)


def snapshot_folder(
    hub_id: str, revision: str | None, variant: str | None, *, safety_checker: bool = False
) -> Path:
    """Return the folder of a base model, after downloading it if it is not here yet.

    A downloaded model is used without asking the hub, so a branch that moves on does not change it. A safety checker
    that is still missing is downloaded from the same commit.

    Raises:
        InvalidModelError: as `find_snapshot` and `download`.
    """
    cached = cached_snapshot(hub_id, revision)
    if cached is None:
        return download(find_snapshot(hub_id, revision, variant, safety_checker=safety_checker))
    if safety_checker and _lacks_safety_checker(cached):
        return download(find_snapshot(hub_id, cached.name, variant, safety_checker=True))
    return cached


def _lacks_safety_checker(folder: Path) -> bool:
    """Return whether the pipeline names a safety checker whose files are not all here."""
    if not ships_safety_checker(folder):
        return False
    try:
        safety_checker_files(folder)
    except InvalidModelError:
        return True
    return False


def choose_files(
    hub_id: str, files: Mapping[str, int], variant: str | None, *, safety_checker: bool = False
) -> list[str]:
    """Return the names of the files to download.

    Args:
        hub_id: the repository, for messages.
        files: names of all its files.
        variant: as in `find_snapshot`.
        safety_checker: as in `find_snapshot`.

    Raises:
        InvalidModelError: the repository has no pipeline in diffusers' layout, or no safetensors weights.
    """
    if "model_index.json" not in files:
        checkpoints = [name for name in files if name.endswith((".safetensors", ".ckpt"))][:3]
        hint = f" but {', '.join(checkpoints)}: download one and add the file" if checkpoints else ""
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{hub_id} without model_index.json{hint}",
            expected="a pipeline in diffusers' folder layout",
        )
    small = (*_SMALL_FILES, *_SMALL_SAFETY_FILES) if safety_checker else _SMALL_FILES
    chosen = [name for name in files if any(fnmatch(name, pattern) for pattern in small)]
    for part in (*_PARTS, SAFETY_CHECKER) if safety_checker else _PARTS:
        weights = [
            name
            for name in files
            if fnmatch(name, f"{part}/*.safetensors*") and not any(fnmatch(name, o) for o in _OTHER_COPIES)
        ]
        if not weights and f"{part}/config.json" in files:
            raise InvalidModelError.mismatch(
                "base_model",
                got=f"{hub_id} without safetensors weights in {part}/",
                expected="safetensors weights of each part (pickle files are not read)",
            )
        lacks_half = part == SAFETY_CHECKER and not _halves(weights)
        chosen += _of_variant(hub_id, weights, None if lacks_half else variant)
    return chosen


def _halves(weights: list[str]) -> list[str]:
    """Return the names of the files in half precision."""
    return [name for name in weights if f".{_HALF}" in PurePosixPath(name).name]


def _of_variant(hub_id: str, weights: list[str], variant: str | None) -> list[str]:
    """Return the files of one copy of a network's weights: the variant, else full precision, else fp16."""
    half = _halves(weights)
    full = [name for name in weights if name not in half]
    if variant == _HALF and weights and not half:
        raise InvalidModelError.mismatch(
            "variant", got=f"{_HALF}, but {hub_id} has only {', '.join(full)}", expected="no variant"
        )
    return half if variant == _HALF or not full else full


def _check_space(snapshot: Snapshot) -> None:
    """Validate that the files which are not here yet fit on the disk of the cache."""
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    needed = sum(
        size
        for name, size in snapshot.sizes.items()
        if not isinstance(try_to_load_from_cache(snapshot.hub_id, name, revision=snapshot.commit), str)
    )
    if needed > free:
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{snapshot.hub_id}, which needs {needed / 1e9:,.1f} GB, with {free / 1e9:,.1f} GB free in {cache}",
            expected="enough space; HF_HOME selects another disk",
        )


class _HubErrors:
    """Context manager that turns errors of the hub's client into one clear InvalidModelError."""

    def __init__(self, hub_id: str, revision: str | None) -> None:
        self._hub_id = hub_id
        self._revision = revision or MAIN

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, (HFValidationError, OfflineModeIsEnabled, OSError, httpx2.HTTPError)):
            return
        got, expected = self._reason(error)
        raise InvalidModelError.mismatch("base_model", got=got, expected=expected) from error

    def _reason(self, error: BaseException) -> tuple[str, str]:
        """Return the two parts of the message: what the model is, and what is needed."""
        if isinstance(error, HFValidationError):
            return repr(self._hub_id), "a hub id (owner/name)"
        if isinstance(error, GatedRepoError):
            return (
                f"{self._hub_id}, whose access is restricted",
                f"access: accept its terms on {constants.ENDPOINT}/{self._hub_id} and set HF_TOKEN",
            )
        if isinstance(error, RevisionNotFoundError):
            return f"revision {self._revision!r} of {self._hub_id}", "a branch, tag or commit that exists"
        if isinstance(error, RepositoryNotFoundError):
            return (
                f"{self._hub_id}, which does not exist on {constants.ENDPOINT} or is private",
                "an existing owner/name; a private one needs HF_TOKEN",
            )
        if isinstance(error, OSError) and not isinstance(error, HfHubHTTPError) and error.strerror:
            return f"{self._hub_id}, which cannot be stored ({error.strerror})", "a cache folder with space"
        if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
            return f"{self._hub_id}, which is not on this machine", f"a connection to {constants.ENDPOINT}"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"{self._hub_id}, whose download failed ({reason})", f"a connection to {constants.ENDPOINT}"
