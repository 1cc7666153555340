"""Every error of the tree has a status, and the API stays free of torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from api.problems import STATUS_OF_CODE, of_error
from zoodip_core import errors as core_errors
from zoodip_core.errors import ZoodipError
from zoodip_core.service import errors as service_errors
from zoodip_core.service.errors import RateLimitedError

_CHECK = "import sys, api.app; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"


def _tree(root: type[ZoodipError]) -> list[type[ZoodipError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def test_every_code_has_one_status() -> None:
    """The core's tree and the table of statuses hold the same codes."""
    told = [
        error
        for error in _tree(ZoodipError)
        if error.__module__ in (core_errors.__name__, service_errors.__name__)
    ]
    codes = {error.code for error in told}
    assert codes == set(STATUS_OF_CODE)


@pytest.mark.slow
def test_importing_the_api_does_not_load_torch() -> None:
    """A fresh interpreter that imports the application has no torch and no diffusers."""
    assert subprocess.run([sys.executable, "-c", _CHECK], check=False).returncode == 0


def test_a_wait_is_told_in_whole_seconds_that_suffice() -> None:
    """Retry-After is rounded up: who waits as long is not refused again."""
    assert of_error(RateLimitedError(0.01)).headers["Retry-After"] == "1"
    assert of_error(RateLimitedError(30.2)).headers["Retry-After"] == "31"
