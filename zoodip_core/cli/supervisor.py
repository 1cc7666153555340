"""Keeps child processes alive and stops them in order; they stay in this process' session."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from zoodip_core.cli.console import say
from zoodip_core.errors import ZoodipError

_QUICK_DEATH_S = 5.0
_MAX_QUICK_DEATHS = 5
_LOOK_EVERY_S = 0.2
_MAX_PAUSE_S = 30.0
_PR_SET_PDEATHSIG = 1


class ChildFailedError(ZoodipError):
    """A process of the service dies as soon as it is started."""

    code = "child_failed"


@dataclass
class Child:
    """One process to keep alive."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    grace_s: float
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    quick_deaths: int = field(default=0)


class Supervisor:
    """Starts children in order, starts a dead one again, stops them in order when told to."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stopping = False

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT.

        Raises:
            ChildFailedError: a child died at once several times in a row; the others are stopped.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._stopping:
                for child in self._children:
                    self._tend(child)
                time.sleep(_LOOK_EVERY_S)
        finally:
            for child in self._children:
                _stop(child)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.start_at:
                child.process = subprocess.Popen(  # noqa: S603 (our own commands)
                    list(child.command), env=dict(child.environment), preexec_fn=_end_with_parent
                )
                child.started_at = now
            return
        code = child.process.poll()
        if code is None:
            return
        child.process = None
        child.quick_deaths = child.quick_deaths + 1 if now - child.started_at < _QUICK_DEATH_S else 0
        if child.quick_deaths >= _MAX_QUICK_DEATHS:
            raise ChildFailedError(f"{child.name} ends with code {code} as soon as it is started")
        pause_s = min(_MAX_PAUSE_S, 0.5 * 2**child.quick_deaths)
        say(f"{child.name} ended with code {code}; it is started again in {pause_s:.1f} s")
        child.start_at = now + pause_s


def _stop(child: Child) -> None:
    if child.process is None or child.process.poll() is not None:
        return
    child.process.terminate()
    try:
        child.process.wait(child.grace_s)
    except subprocess.TimeoutExpired:
        say(
            f"{child.name} does not end within {child.grace_s:.0f} s; it is killed (leases give its jobs back)"
        )
        child.process.kill()
        child.process.wait()


def _end_with_parent() -> None:
    """On Linux the kernel ends the child when the supervisor itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
