"""Supervisor: restarts child processes that exit or hang, and stops them in order; they share its session."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from zoodip_core.cli.console import say
from zoodip_core.errors import ZoodipError

_EARLY_EXIT_S = 5.0
_MAX_EARLY_EXITS = 5
_POLL_S = 0.2
_MAX_RESTART_DELAY_S = 30.0
PROBE_EVERY_S = 5.0
START_LIMIT_S = 300.0
_MAX_MISSES = 3
_PR_SET_PDEATHSIG = 1
_LAST_LINES = 8


class ChildFailedError(ZoodipError):
    """A child process exits immediately after each start."""

    code = "child_failed"


@dataclass
class Child:
    """Child process and its restart state.

    `started_at` and `restart_at` are monotonic times; `early_exits` counts consecutive exits within 5 seconds;
    `last_lines` are the last lines that it wrote to stderr. `probe` says whether the running process responds.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    grace_s: float
    probe: Callable[[int], bool | None] = lambda _pid: None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    early_exits: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    forwarder: threading.Thread | None = None


class Supervisor:
    """Starts children in order, restarts those that exit or hang, and stops them in order."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._stopping = False
        self._stop_event = threading.Event()  # separate, because a signal handler must not take its lock

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT.

        Raises:
            ChildFailedError: a child exited early 5 times in a row; the others are stopped.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        for child in self._children:
            watchdog = Watchdog(child, self._stop_event)
            threading.Thread(target=watchdog.run, name=f"watchdog of {child.name}", daemon=True).start()
        try:
            while not self._stopping:
                for child in self._children:
                    self._start_or_restart(child)
                time.sleep(_POLL_S)
        finally:
            self._stop_event.set()
            for child in self._children:
                _stop(child)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start_or_restart(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                _start(child)
                child.started_at = now
            return
        code = child.process.poll()
        if code is None:
            return
        child.process = None
        child.early_exits = child.early_exits + 1 if now - child.started_at < _EARLY_EXIT_S else 0
        if child.early_exits >= _MAX_EARLY_EXITS:
            raise ChildFailedError(_describe_failure(child, code))
        delay_s = min(_MAX_RESTART_DELAY_S, 0.5 * 2**child.early_exits)
        say(f"{child.name} exited with code {code}; restarting it in {delay_s:.1f} s")
        child.restart_at = now + delay_s


class Watchdog:
    """Kills a child that does not respond to three probes in a row. The supervisor then restarts it.

    Until its first response a child has five minutes to start.
    """

    def __init__(self, child: Child, stop_event: threading.Event) -> None:
        self._child = child
        self._stop_event = stop_event
        self._process: subprocess.Popen[bytes] | None = None
        self._has_responded = False
        self._misses = 0

    def run(self) -> None:
        """Probe until stopped."""
        while not self._stop_event.wait(PROBE_EVERY_S):
            process = self._child.process
            if process is not None and process.poll() is None:
                self._check(process)

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        if process is not self._process:  # it has been restarted
            self._process, self._has_responded, self._misses = process, False, 0
        responds = self._child.probe(process.pid)
        if responds is not False:
            self._has_responded = self._has_responded or bool(responds)
            self._misses = 0
            return
        if not self._has_responded and time.monotonic() - self._child.started_at < START_LIMIT_S:
            return
        self._misses += 1
        if self._misses >= _MAX_MISSES and not self._stop_event.is_set():
            say(f"{self._child.name} did not respond to {self._misses} health checks and is killed")
            process.kill()


def _start(child: Child) -> None:
    child.last_lines.clear()
    child.process = subprocess.Popen(  # noqa: S603 (our own commands)
        list(child.command),
        env=dict(child.environment),
        stderr=subprocess.PIPE,
        preexec_fn=_terminate_with_parent,
    )
    child.forwarder = threading.Thread(target=_forward, args=(child.process, child.last_lines), daemon=True)
    child.forwarder.start()


def _forward(process: subprocess.Popen[bytes], last_lines: deque[str]) -> None:
    """Copy the child's stderr to ours and keep its last lines for the error message."""
    assert process.stderr is not None
    with process.stderr as stream:
        for line in stream:
            text = line.decode(errors="replace")
            last_lines.append(text.rstrip())
            sys.stderr.write(text)
            sys.stderr.flush()


def _describe_failure(child: Child, code: int) -> str:
    if child.forwarder is not None:
        child.forwarder.join(_POLL_S)  # the last lines may still be in the pipe
    lines = "\n".join(f"  {line}" for line in child.last_lines) or "  (none)"
    return (
        f"{child.name} exited with code {code} immediately after each of {child.early_exits} starts; "
        f"its last lines on stderr:\n{lines}"
    )


def _stop(child: Child) -> None:
    if child.process is None or child.process.poll() is not None:
        return
    child.process.terminate()
    try:
        child.process.wait(child.grace_s)
    except subprocess.TimeoutExpired:
        say(
            f"{child.name} did not exit within {child.grace_s:.0f} s and is killed; "
            "its jobs are requeued when their leases expire"
        )
        child.process.kill()
        child.process.wait()


def _terminate_with_parent() -> None:
    """Ask the Linux kernel to terminate this child when the supervisor dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
