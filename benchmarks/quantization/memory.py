"""Memory of this process, as reported by the kernel."""

from __future__ import annotations

from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5)


def resident_bytes(*, peak: bool = False) -> int:
    """Return resident memory now, or its peak since the program started.

    Read from /proc because ru_maxrss also counts the program that forked this one.
    """
    name = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def reset_resident_peak() -> None:
    """Reset the peak of resident memory to its current value."""
    _CLEAR.write_text(_RESET_PEAK)
