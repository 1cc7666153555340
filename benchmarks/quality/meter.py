"""What a search costs: seconds and peak memory, kept through checkpoints."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quantization.memory import resident_bytes

_CLEAR = Path("/proc/self/clear_refs")
_RESTART_PEAK = "5"  # proc(5): sets the peak of resident memory back to what is resident now


class Meter:
    """Counts from its making on; what an interrupted run had spent is added."""

    def __init__(self, device: torch.device, state: dict[str, Tensor] | None = None) -> None:
        """Start to count.

        Args:
            device: whose memory counts: CUDA's own, else all of this process.
            state: taken out of it: what `state` gave before the interruption.
        """
        self._cuda = device.type == "cuda"
        before = {} if state is None else {name: float(state.pop(name)) for name in ("seconds", "peak_bytes")}
        self._seconds, self._peak = before.get("seconds", 0.0), before.get("peak_bytes", 0.0)
        self._started = time.perf_counter()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            _CLEAR.write_text(_RESTART_PEAK)

    def state(self) -> dict[str, Tensor]:
        """Seconds and peak so far."""
        now = torch.cuda.max_memory_allocated() if self._cuda else resident_bytes(peak=True)
        seconds = self._seconds + time.perf_counter() - self._started
        values = {"seconds": seconds, "peak_bytes": max(self._peak, float(now))}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
