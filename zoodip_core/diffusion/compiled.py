"""The U-Net compiled by torch: one program for each number of rows, built in the background."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.cuda_graphs import CudaGraph, GraphPool

BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of rows that have a program. A batch is padded to the next one; a larger batch runs eagerly."""

COMPILER_CACHE = Path.home() / ".cache" / "zoodip" / "compiled"

_PLAIN_TOKENS = 77  # CLIP's context; longer prompts run eagerly
_log = logging.getLogger(__name__)


def use_compiler_cache(folder: Path) -> None:
    """Keep compiled programs in a folder, unless `TORCHINDUCTOR_CACHE_DIR` names another one."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def evaluate(unet: Any, inputs: Sequence[Tensor]) -> Float[Tensor, "rows c h w"]:
    """Run the U-Net.

    Args:
        unet: the U-Net.
        inputs: noisy latents, timesteps and text-encoder states; for SDXL also pooled states and size conditioning.
    """
    noisy, timesteps, states, *added = inputs
    conditions = dict(zip(("text_embeds", "time_ids"), added, strict=True)) if added else None
    output: Tensor = unet(
        noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=conditions, return_dict=False
    )[0]
    return output


class CompiledUnet:
    """Runs batches of the model's native size with compiled programs, as far as these are ready.

    The first batch of a bucket starts a thread that compiles its program. Until it is ready, and while another one is
    compiled, the caller must use the eager path. A bucket whose program fails stays eager. The first failure logs
    a warning.

    Args:
        unet: the frozen U-Net.

    Attributes:
        compiled_rows: rows that compiled programs have evaluated.
    """

    def __init__(self, unet: Any) -> None:
        self.compiled_rows = 0
        self._unet = unet
        self._side = int(unet.config.sample_size)
        self._programs: dict[tuple[int, int], _Program | None] = {}  # None after a failure
        self._pool = GraphPool()
        self._compiler_lock = threading.Lock()  # torch cannot run a program while it traces another one
        self._thread: threading.Thread | None = None
        self._failed = False

    @property
    def buckets(self) -> list[int]:
        """Numbers of rows whose program is ready."""
        return sorted({rows for (rows, _), program in self._programs.copy().items() if program is not None})

    @property
    def graph_bytes(self) -> int:
        """Memory of the CUDA graphs; their weights are those of the U-Net."""
        return self._pool.size_bytes

    def run(self, inputs: Sequence[Tensor]) -> Float[Tensor, "rows c h w"] | None:
        """Return the U-Net's output in fp32, or None if the eager path must compute it.

        Args:
            inputs: as in `evaluate`, on one device.
        """
        bucket = self._bucket(inputs)
        if bucket is None or not self._compiler_lock.acquire(blocking=False):
            return None
        key = (bucket, torch.get_num_threads())  # a program is compiled for its number of CPU threads
        try:
            if key not in self._programs:
                self._start(key, inputs)
                return None
            program = self._programs[key]
            if program is None:
                return None
            output = program.run(inputs)
        except Exception as error:  # noqa: BLE001 (any failure of the compiler means the eager path)
            self._record_failure(key, error)
            return None
        finally:
            self._compiler_lock.release()
        self.compiled_rows += len(output)
        return output

    def wait(self) -> None:
        """Wait until no program is being compiled."""
        if self._thread is not None:
            self._thread.join()

    def _bucket(self, inputs: Sequence[Tensor]) -> int | None:
        noisy, _, states = inputs[:3]
        if noisy.shape[2:] != (self._side, self._side) or states.shape[1] != _PLAIN_TOKENS:
            return None
        return next((size for size in BUCKETS if size >= len(noisy)), None)

    def _start(self, key: tuple[int, int], inputs: Sequence[Tensor]) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        program = _Program(self._unet, inputs, key[0], self._pool)
        self._thread = threading.Thread(
            target=self._compile, args=(key, program), name="compiler", daemon=True
        )
        self._thread.start()

    def _compile(self, key: tuple[int, int], program: _Program) -> None:
        with self._compiler_lock:
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
            _log.warning("the U-Net runs without compilation: %s: %s", type(error).__name__, reason)
        self._failed = True


class _Program:
    """Compiled U-Net for one number of rows. On CUDA it is captured as a graph.

    Its inputs have fixed addresses, as a CUDA graph requires, and fixed strides, so that torch never compiles again.
    """

    def __init__(self, unet: Any, inputs: Sequence[Tensor], bucket: int, pool: GraphPool) -> None:
        self._inputs = tuple(_buffer(one, bucket) for one in inputs)
        self._inputs = (self._inputs[0], self._inputs[1].float(), *self._inputs[2:])  # all kinds of timesteps
        self._fill(inputs)
        self._pool = pool
        self._graph: CudaGraph | None = None
        self._forward = torch.compile(  # type: ignore[call-overload]  # its overloads lack two arguments
            lambda *given: evaluate(unet, given),
            fullgraph=True,
            dynamic=False,
            isolate_recompiles=True,
            recompile_limit=1,  # another compilation would stop the engine, so it is an error
        )

    @torch.no_grad()
    def compile(self) -> None:
        """Compile the program and run it once."""
        self._forward(*self._inputs)

    def run(self, inputs: Sequence[Tensor]) -> Float[Tensor, "rows c h w"]:
        """Return the output in fp32. Call it on one thread at a time."""
        self._fill(inputs)
        device = self._inputs[0].device
        if device.type == "cuda" and self._graph is None:
            self._graph = CudaGraph(lambda: self._forward(*self._inputs), device, self._pool)
        output: Tensor = self._forward(*self._inputs) if self._graph is None else self._graph.replay()
        return output[: len(inputs[0])].to(torch.float32, copy=True)  # the graph reuses its output

    def _fill(self, inputs: Sequence[Tensor]) -> None:
        """Copy the inputs, and pad them with copies of the last row."""
        for buffer, given in zip(self._inputs, inputs, strict=True):
            buffer[: len(given)].copy_(given, non_blocking=True)
            buffer[len(given) :].copy_(given[-1:].expand(len(buffer) - len(given), *given.shape[1:]))


def _buffer(like: Tensor, rows: int) -> Tensor:
    order = torch.channels_last if like.ndim == 4 else torch.contiguous_format
    shape = (rows, *like.shape[1:])
    return torch.zeros(shape, dtype=like.dtype, device=like.device).contiguous(memory_format=order)
