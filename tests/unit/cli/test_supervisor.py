"""The supervisor of `zoodip serve`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from zoodip_core.cli import supervisor
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


_SLEEPS = "import time; time.sleep(600)"


def _stop_supervisor() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_child_that_hangs_is_killed_and_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen child is killed after three missed probes, not after one, and a new process takes its place."""
    monkeypatch.setattr(supervisor, "PROBE_EVERY_S", 0.02)
    probed: list[int] = []

    def probe(pid: int) -> bool:
        probed.append(pid)
        if pid != probed[0]:
            _stop_supervisor()
            return True
        os.kill(pid, signal.SIGSTOP)
        return probed.count(pid) in (1, 3)  # the first miss has no consequence

    Supervisor([Child("the API", [sys.executable, "-c", _SLEEPS], os.environ, 5.0, probe=probe)]).run()
    first = probed[0]
    assert probed.count(first) >= 6
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.parametrize("answer", [None, False])
def test_a_starting_or_unknown_child_is_not_killed(
    monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    """Failed probes before the first response, and probes without an answer, have no consequence."""
    monkeypatch.setattr(supervisor, "PROBE_EVERY_S", 0.02)
    probed: list[int] = []

    def probe(pid: int) -> bool | None:
        probed.append(pid)
        if len(probed) == 10:
            _stop_supervisor()
        return answer

    Supervisor([Child("the worker", [sys.executable, "-c", _SLEEPS], os.environ, 5.0, probe=probe)]).run()
    assert len(set(probed)) == 1
