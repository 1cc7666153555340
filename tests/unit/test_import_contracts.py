"""The import contracts cover every room of the core."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICE_ROOMS = {"zoodip_core.cli", "zoodip_core.service"}


def _rooms() -> set[str]:
    """Return the modules and packages directly below `zoodip_core`."""
    entries = (ROOT / "zoodip_core").iterdir()
    names = {entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    return {f"zoodip_core.{name}" for name in names - {"__init__"}}


def test_every_room_without_the_service_is_kept_free_of_its_libraries() -> None:
    """A new module must be added to the contract, or this test fails."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if "no service library" in one["name"]]
    assert set(contract["source_modules"]) == _rooms() - SERVICE_ROOMS
