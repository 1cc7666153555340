"""The import contracts cover every module of the core."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICE_MODULES = {"zoodip_core.cli", "zoodip_core.service"}


def _core_modules() -> set[str]:
    """Return the modules and packages directly below `zoodip_core`."""
    entries = (ROOT / "zoodip_core").iterdir()
    names = {entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    return {f"zoodip_core.{name}" for name in names - {"__init__"}}


def test_the_contract_lists_every_module_that_must_not_import_service_libraries() -> None:
    """A new module outside the service must be added to the contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [entry for entry in contracts if "no service library" in entry["name"]]
    assert set(contract["source_modules"]) == _core_modules() - SERVICE_MODULES
