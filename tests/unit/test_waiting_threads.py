"""The OpenMP spin count: a short default that environment variables can override."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch uses GNU OpenMP only on Linux")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "spins"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000")],
    ids=["default", "spin count", "wait policy"],
)
def test_the_command_sets_the_spin_count_unless_the_user_does(variables: dict[str, str], spins: str) -> None:
    """OpenMP reports the spin count at load time; its own default is 300,000."""
    environment = {name: value for name, value in os.environ.items() if name not in USER_VARIABLES}

    result = subprocess.run(
        [sys.executable, "-c", "import zoodip_core.cli.main, torch"],
        cwd=ROOT,
        env=environment
        | variables
        | {"OMP_DISPLAY_ENV": "verbose"},  # OpenMP prints its settings at load time
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", result.stderr) == [spins]
