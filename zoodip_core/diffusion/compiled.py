"""Networks compiled by torch: one program for each number of rows, built in the background."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoodip_core.diffusion.cuda_graphs import CudaGraph, GraphPool

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of rows that have a program. A batch is padded to the next one; a larger batch runs eagerly."""

COMPILER_CACHE = Path.home() / ".cache" / "zoodip" / "compiled"

Forward = Callable[..., tuple[Tensor, ...]]
"""A network as a function of its input tensors, each with one row for each row of the batch."""

_log = logging.getLogger(__name__)


def use_compiler_cache(folder: Path) -> None:
    """Keep compiled programs in a folder, unless `TORCHINDUCTOR_CACHE_DIR` names another one."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


_compiler_lock = threading.Lock()  # torch cannot run a program while it traces another one


class CompiledNetwork:
    """Runs batches of one shape with compiled programs, as far as these are ready.

    The first batch of a bucket starts a thread that compiles its program. Until it is ready, and while another one is
    compiled, the caller must use the eager path. A bucket whose program fails stays eager. The first failure logs
    a warning.

    Args:
        name: name of the network, for the warning.
        forward: the frozen network.
        accepts: whether a batch has the shape of the programs, whatever its number of rows.

    Attributes:
        compiled_rows: rows that compiled programs have evaluated.
    """

    def __init__(self, name: str, forward: Forward, accepts: Callable[[Sequence[Tensor]], bool]) -> None:
        self.compiled_rows = 0
        self._name = name
        self._forward = forward
        self._accepts = accepts
        self._programs: dict[tuple[int, int], _Program | None] = {}  # None after a failure
        self._pool = GraphPool()
        self._thread: threading.Thread | None = None
        self._failed = False

    @property
    def buckets(self) -> list[int]:
        """Numbers of rows whose program is ready."""
        return sorted({rows for (rows, _), program in self._programs.copy().items() if program is not None})

    @property
    def graph_bytes(self) -> int:
        """Memory of the CUDA graphs; their weights are those of the network."""
        return self._pool.size_bytes

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Return the network's outputs, or None if the eager path must compute them.

        Args:
            inputs: those of `forward`, on one device.
        """
        bucket = self._bucket(inputs)
        if bucket is None or not _compiler_lock.acquire(blocking=False):
            return None
        key = (bucket, torch.get_num_threads())  # a program is compiled for its number of CPU threads
        try:
            if key not in self._programs:
                self._start(key, inputs)
                return None
            program = self._programs[key]
            if program is None:
                return None
            outputs = program.run(inputs)
        except Exception as error:  # noqa: BLE001 (any failure of the compiler means the eager path)
            self._record_failure(key, error)
            return None
        finally:
            _compiler_lock.release()
        self.compiled_rows += len(inputs[0])
        return outputs

    def wait(self) -> None:
        """Wait until no program is being compiled."""
        if self._thread is not None:
            self._thread.join()

    def _bucket(self, inputs: Sequence[Tensor]) -> int | None:
        if not self._accepts(inputs):
            return None
        return next((size for size in BUCKETS if size >= len(inputs[0])), None)

    def _start(self, key: tuple[int, int], inputs: Sequence[Tensor]) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        program = _Program(self._forward, inputs, key[0], self._pool)
        self._thread = threading.Thread(
            target=self._compile, args=(key, program), name="compiler", daemon=True
        )
        self._thread.start()

    def _compile(self, key: tuple[int, int], program: _Program) -> None:
        with _compiler_lock:
            try:
                torch.set_num_threads(key[1])  # of this thread
                program.compile()
                self._programs[key] = program
            except Exception as error:  # noqa: BLE001 (any failure of the compiler means the eager path)
                self._record_failure(key, error)

    def _record_failure(self, key: tuple[int, int], error: Exception) -> None:
        self._programs[key] = None
        if not self._failed:
            reason = str(error).strip().partition("\n")[0]
            _log.warning("%s runs without compilation: %s: %s", self._name, type(error).__name__, reason)
        self._failed = True


class _Program:
    """Compiled network for one number of rows. On CUDA it is captured as a graph.

    Its inputs have fixed addresses, as a CUDA graph requires, and fixed strides, so that torch never compiles again.
    """

    def __init__(self, forward: Forward, inputs: Sequence[Tensor], bucket: int, pool: GraphPool) -> None:
        self._inputs = tuple(_buffer(one, bucket) for one in inputs)
        self._fill(inputs)
        self._pool = pool
        self._graph: CudaGraph | None = None
        self._forward = torch.compile(  # type: ignore[call-overload]  # its overloads lack two arguments
            lambda *given: forward(*given),
            fullgraph=True,
            dynamic=False,
            isolate_recompiles=True,
            recompile_limit=1,  # another compilation would stop the engine, so it is an error
        )

    @torch.no_grad()
    def compile(self) -> None:
        """Compile the program and run it once."""
        self._forward(*self._inputs)

    @torch.no_grad()
    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return copies of the outputs. Call it on one thread at a time."""
        self._fill(inputs)
        device = self._inputs[0].device
        if device.type == "cuda" and self._graph is None:
            self._graph = CudaGraph(lambda: self._forward(*self._inputs), device, self._pool)
        outputs = self._forward(*self._inputs) if self._graph is None else self._graph.replay()
        return tuple(one[: len(inputs[0])].clone() for one in outputs)  # the graph reuses its outputs

    def _fill(self, inputs: Sequence[Tensor]) -> None:
        """Copy the inputs, and pad them with copies of the last row."""
        for buffer, given in zip(self._inputs, inputs, strict=True):
            buffer[: len(given)].copy_(given, non_blocking=True)
            buffer[len(given) :].copy_(given[-1:].expand(len(buffer) - len(given), *given.shape[1:]))


def _buffer(like: Tensor, rows: int) -> Tensor:
    order = torch.channels_last if like.ndim == 4 else torch.contiguous_format
    shape = (rows, *like.shape[1:])
    return torch.zeros(shape, dtype=like.dtype, device=like.device).contiguous(memory_format=order)
