"""The supervisor of `zoodip serve`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from zoodip_core.cli.supervisor import Child, ChildFailedError, Supervisor

_FAILS = "import sys; print('first'); sys.stderr.write('the cause of the failure\\n'); sys.exit(3)"


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Restore the handlers that `Supervisor.run` replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_child_that_cannot_start_shows_its_last_lines() -> None:
    """The error repeats what the child wrote to stderr, so the cause is visible where the command ends."""
    child = Child("the worker", [sys.executable, "-c", _FAILS], os.environ, grace_s=1.0)
    with pytest.raises(ChildFailedError, match="the worker exited with code 3") as error:
        Supervisor([child]).run()
    assert error.value.message.splitlines()[-1] == "  the cause of the failure"
