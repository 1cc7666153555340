"""Base models on the Hugging Face Hub: lookup, download, and use without network afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from zoodip_core.base_models.hub_files import choose_files, is_weights
from zoodip_core.base_models.safety_checker import safety_checker_files, ships_safety_checker
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.errors import InvalidModelError

MAIN = "main"
"""Revision that is used if none is given."""

_DENIED = (401, 403)


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
    only the files that are still missing. The weights of a model that cannot be used are not downloaded.

    Raises:
        InvalidModelError: access is denied, the disk is too small, the connection fails repeatedly, or the
            configurations are not those of a supported model.
    """
    _check_space(snapshot)
    detect_family(_fetch(snapshot, [name for name in snapshot.sizes if not is_weights(name)]))
    return _fetch(snapshot, list(snapshot.sizes))


def _fetch(snapshot: Snapshot, names: list[str]) -> Path:
    """Download some files of a snapshot that are not here yet, and return the folder."""
    with _HubErrors(snapshot.hub_id, snapshot.revision):
        folder = snapshot_download(  # by its name, so that the cache finds the revision without network
            snapshot.hub_id, revision=snapshot.revision, allow_patterns=names
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
            return f"{self._hub_id}, whose access is restricted", self._access()
        if isinstance(error, RevisionNotFoundError):
            return f"revision {self._revision!r} of {self._hub_id}", "a branch, tag or commit that exists"
        if isinstance(error, RepositoryNotFoundError):
            return (
                f"{self._hub_id}, which does not exist on {constants.ENDPOINT} or is private",
                "an existing owner/name; a private one needs HF_TOKEN",
            )
        status = _status(error)
        if status is not None:
            expected = self._access() if status in _DENIED else "an answer with the files; try again later"
            return f"{self._hub_id}, for which {constants.ENDPOINT} answers with status {status}", expected
        if isinstance(error, OSError) and not isinstance(error, HfHubHTTPError) and error.strerror:
            return f"{self._hub_id}, which cannot be stored ({error.strerror})", "a cache folder with space"
        if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
            return f"{self._hub_id}, which is not on this machine", f"a connection to {constants.ENDPOINT}"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"{self._hub_id}, whose download failed ({reason})", f"a connection to {constants.ENDPOINT}"

    def _access(self) -> str:
        return f"access: accept its terms on {constants.ENDPOINT}/{self._hub_id} and set HF_TOKEN"


def _status(error: BaseException) -> int | None:
    """Return the status of the hub's answer that led to an error; None if there was no answer."""
    responses = (getattr(one, "response", None) for one in (error, error.__cause__))
    return next((response.status_code for response in responses if response is not None), None)
