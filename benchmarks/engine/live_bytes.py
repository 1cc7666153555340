"""Counts the bytes of live tensors: what CUDA's allocator would report, measured without a GPU."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context that tracks the storages that operations create inside it.

    A storage counts from the operation that returns it until it is freed. Memory that a kernel allocates and frees
    inside one operation does not count.

    Args:
        meta: count tensors on the meta device, which allocate nothing, instead of those on other devices.

    Attributes:
        current: bytes of live storages.
        peak: largest value of `current`.
    """

    def __init__(self, *, meta: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._meta = meta
        self.current = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and record the storages of its inputs' and outputs' tensors."""
        inputs = {
            _storage_id(tensor) for tensor in tree_iter((args, kwargs)) if isinstance(tensor, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and _storage_id(tensor) not in inputs:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or (storage.device.type == "meta") != self._meta:
            return
        self._known.add(key)
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.current -= size


def _storage_id(tensor: torch.Tensor) -> int:
    """Return the address of the tensor's storage object; views of one storage share it."""
    return int(tensor.untyped_storage()._cdata)
