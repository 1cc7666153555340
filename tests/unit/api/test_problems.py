"""Each error code has an HTTP status, and the API does not import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from api.problems import STATUS_OF_CODE, problem_from_error
from zoodip_core import errors as core_errors
from zoodip_core.errors import ZoodipError
from zoodip_core.service import errors as service_errors
from zoodip_core.service.errors import RateLimitedError

_CHECK = "import sys, api.app; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"


def _tree(root: type[ZoodipError]) -> list[type[ZoodipError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def test_each_code_has_a_status() -> None:
    """The error tree and the table of statuses contain the same codes."""
    errors = [
        error
        for error in _tree(ZoodipError)
        if error.__module__ in (core_errors.__name__, service_errors.__name__)
    ]
    codes = {error.code for error in errors}
    assert codes == set(STATUS_OF_CODE)


@pytest.mark.slow
def test_importing_the_api_does_not_load_torch() -> None:
    """A new interpreter that imports the application has loaded neither torch nor diffusers."""
    assert subprocess.run([sys.executable, "-c", _CHECK], check=False).returncode == 0


def test_retry_after_is_rounded_up_to_whole_seconds() -> None:
    """A client that waits for Retry-After is not refused again."""
    assert problem_from_error(RateLimitedError(0.01)).headers["Retry-After"] == "1"
    assert problem_from_error(RateLimitedError(30.2)).headers["Retry-After"] == "31"
