"""CUDA graphs: a forward pass that is launched as a whole, instead of kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class GraphPool:
    """Memory that all graphs of one network share, because only one of them runs at a time.

    Attributes:
        size_bytes: memory that the graphs hold.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.handle: Any = None


class CudaGraph:
    """Captured forward pass with fixed inputs and outputs.

    torch's own CUDA graphs (`mode="reduce-overhead"`) belong to the thread that compiled them. These can be captured
    and replayed on another thread than the compiler's.

    Args:
        forward: function without arguments; all its tensors must be on the device, and its input addresses fixed.
        device: CUDA device.
        pool: memory of the graph.

    Raises:
        RuntimeError: the memory does not suffice, or an operation cannot be captured.
    """

    def __init__(
        self, forward: Callable[[], tuple[Tensor, ...]], device: torch.device, pool: GraphPool
    ) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            before = torch.cuda.memory_reserved()
            self._warm_up(forward)
            if pool.handle is None:
                pool.handle = torch.cuda.graph_pool_handle()
            with torch.cuda.graph(self._graph, pool=pool.handle, capture_error_mode="thread_local"):
                self._outputs = forward()
            pool.size_bytes += max(0, torch.cuda.memory_reserved() - before)

    @staticmethod
    def _warm_up(forward: Callable[[], tuple[Tensor, ...]]) -> None:
        """Run once on another stream, so that libraries allocate their workspaces before the capture."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            forward()
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> tuple[Tensor, ...]:
        """Run the graph. The next replay of any graph of the pool overwrites the returned tensors."""
        self._graph.replay()
        return self._outputs
