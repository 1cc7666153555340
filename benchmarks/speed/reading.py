"""Measures one workload: speed of its steps, peak memory, and the share of the device's matrix rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock

import torch
from torch import nn

from benchmarks.quantization.memory import reset_resident_peak, resident_bytes
from benchmarks.speed.entries import Entry, Workload
from benchmarks.speed.operators import count_flops, count_kernels, profile_step
from zoodip_core.base_models.catalog import BaseModelEntry

MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
MATRIX_PRODUCTS = 4  # the fastest counts


@dataclass(frozen=True)
class Facts:
    """Figures that do not change from reading to reading.

    Attributes:
        weights: how the weights are stored.
        peak_bytes: peak memory from the begin of the work, after loading, to the end of its first step. On CUDA the
            bytes that torch has allocated. On a CPU the growth of resident memory since before loading.
        flops_per_row: operations of a step, divided by the rows of its U-Net passes.
        kernels_per_forward: kernels of a step, divided by its U-Net passes.
    """

    weights: str
    peak_bytes: int
    flops_per_row: float
    kernels_per_forward: float


@dataclass(frozen=True)
class Reading:
    """Speed in one interval.

    Attributes:
        it_per_s: steps of searches per second, all searches together.
        rows_per_s: rows of the U-Net per second, of all jobs.
        forwards_per_s: passes of the U-Net per second.
        busy_share: CPU time divided by the duration: below the number of threads if other processes take the
            processor. 1 on CUDA.
        matrix_flops_per_s: rate of a large matrix product, measured directly after. On a CPU it is per second of CPU
            time.
    """

    it_per_s: float
    rows_per_s: float
    forwards_per_s: float
    busy_share: float
    matrix_flops_per_s: float


class _PassCounter:
    """Counts passes of a U-Net, and their rows, on any thread."""

    def __init__(self, workload: Workload) -> None:
        self.passes = self.rows = 0
        self._lock = Lock()
        workload.watch(self._count)

    def _count(self, rows: int) -> None:
        with self._lock:
            self.passes += 1
            self.rows += rows


class Measured:
    """An entry on a base model, loaded and warm."""

    def __init__(self, entry: Entry, model: BaseModelEntry, device: str) -> None:
        self._device = device
        layer = nn.Linear(64, 64, device=device)
        layer(torch.ones(1, 64, device=device))  # the cost of first use does not belong to the model
        before = _used_bytes(device, peak=False)
        models = entry.load(model, device)
        _reset_peak(device)
        self.workload: Workload = entry.begin(models)
        self._counter = _PassCounter(self.workload)
        flops = count_flops(self.workload.step)
        peak = _used_bytes(device, peak=True) - before
        rows = self._counter.rows
        if entry.compile is not None:
            entry.compile(models, self.workload)
        passes = self._counter.passes
        kernels = count_kernels(profile_step(self.workload.step, device), device)
        self.facts = Facts(
            self.workload.weights,
            peak,
            flops / rows,
            kernels / (self._counter.passes - passes),
        )

    def read(self, seconds: float) -> Reading:
        """Run steps for at least this time, and one at least."""
        passes, rows, steps = self._counter.passes, self._counter.rows, 0
        _synchronize(self._device)
        started, busy = time.perf_counter(), _busy_seconds(self._device)
        while (spent := time.perf_counter() - started) < seconds or not steps:
            self.workload.step()
            _synchronize(self._device)
            steps += 1
        busy = _busy_seconds(self._device) - busy
        return Reading(
            steps * self.workload.searches / spent,
            (self._counter.rows - rows) / spent,
            (self._counter.passes - passes) / spent,
            busy / spent,
            matrix_rate(self._device),
        )


def matrix_rate(device: str) -> float:
    """Return the operations per second of a large matrix product: fp32 on a CPU, fp16 on CUDA."""
    kind = torch.device(device).type
    side, dtype = MATRIX_SIDE[kind], torch.float16 if kind == "cuda" else torch.float32
    left, right = torch.ones(2, side, side, dtype=dtype, device=device)
    torch.mm(left, right)
    best = float("inf")
    for _ in range(MATRIX_PRODUCTS):
        _synchronize(device)
        started = _busy_seconds(device)
        torch.mm(left, right)
        _synchronize(device)
        best = min(best, _busy_seconds(device) - started)
    return 2 * side**3 / best


def _busy_seconds(device: str) -> float:
    """Return a clock that stops while other processes have the processor; on CUDA the time."""
    return time.perf_counter() if device.startswith("cuda") else time.process_time()


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_resident_peak()


def _used_bytes(device: str, *, peak: bool) -> int:
    if not device.startswith("cuda"):
        return resident_bytes(peak=peak)
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
