"""Threads that wait give the core away soon, unless the user says otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAID_BY_USERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch has GNU's OpenMP on Linux alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000")],
    ids=["nothing said", "a count", "a policy"],
)
def test_the_command_spins_shortly_unless_told(said: dict[str, str], spins: str) -> None:
    """Return the spin count that torch's OpenMP reports; without the package it is 300,000."""
    environment = {name: value for name, value in os.environ.items() if name not in SAID_BY_USERS}

    seen = subprocess.run(
        [sys.executable, "-c", "import zoodip_core.cli.main, torch"],
        cwd=ROOT,
        env=environment | said | {"OMP_DISPLAY_ENV": "verbose"},  # the library's own word, as it is loaded
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", seen.stderr) == [spins]
