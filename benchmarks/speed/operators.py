"""Counts the operators of a step with torch's profiler, and the operations of its matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from zoodip_core.diffusion.threads import threads_for

_COPIES = ("aten::copy_", "aten::fill_")
"""Operators that others use on the way: one that calls only these does its own work, too."""

_WITHOUT_WORK = ("aten::clone", "aten::_to_copy", "aten::item", "aten::_local_scalar_dense", "aten::resize_")
"""Operators that only call others, or none."""


def profile_step(step: Callable[[], None], device: str) -> Any:
    """Return the profile of a step, with the operators of all threads."""
    activities = [ProfilerActivity.CPU]
    if device.startswith("cuda"):
        activities.append(ProfilerActivity.CUDA)
    with profile(
        activities=activities, experimental_config=_ExperimentalConfig(profile_all_threads=True)
    ) as found:
        step()
    return found


def count_kernels(found: Any, device: str) -> int:
    """Return the number of kernels of a profile.

    On CUDA these are the launched kernels. On a CPU they are the operators that compute something, so an operator
    that only calls others does not count, nor does one that returns a view or allocates memory.
    """
    events = found.events()
    if device.startswith("cuda"):
        return sum(event.device_type.name == "CUDA" and not event.name.startswith("Mem") for event in events)
    return sum(_counts(event) for event in events)


def _counts(event: Any) -> bool:
    """Return whether the operator of this event computes something itself."""
    return _computes(event.name) and not any(_works(child) for child in event.cpu_children)


def _works(event: Any) -> bool:
    """Return whether an operator below this event computes something other than a copy."""
    own = event.name not in _COPIES and _counts(event)
    return own or any(_works(child) for child in event.cpu_children)


@cache
def _computes(name: str) -> bool:
    """Return whether the operator is more than a view, an allocation or a call of others."""
    if "cpp_fused" in name:  # a kernel of torch.compile
        return True
    namespace, _, operator = name.partition("::")
    if not operator or name in _WITHOUT_WORK or operator.startswith(("empty", "new_empty")):
        return False
    packet = getattr(getattr(torch.ops, namespace), operator, None)
    if packet is None:
        return False
    return not any(getattr(packet, overload).is_view for overload in packet.overloads())


def count_flops(step: Callable[[], None]) -> int:
    """Return the floating-point operations of the matrix products, convolutions and attentions of a step.

    The same operations count with every kind of weights. The step runs with one thread of torch, so that the engine
    makes no groups: other threads are not counted.
    """
    mapping = {torch.ops.mkldnn._convolution_pointwise: _packed_flops, **_quanto_flops()}
    with threads_for(0), FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        step()
    return int(counter.get_total_flops())


def _packed_flops(_: Any, weight: Any, *__: Any, out_shape: Any, **___: Any) -> int:
    """Return the count of a convolution with a packed kernel, which torch does not know."""
    operations: int = 2 * prod(out_shape) * prod(weight[1:])
    return operations


def _quanto_flops() -> dict[Any, Any]:
    """Return the count of optimum-quanto's matrix product, which torch does not know; empty if it is not loaded."""
    product = getattr(torch.ops.quanto, "qbytes_mm", None)

    def count(rows: Any, weight: Any, *_: Any, **__: Any) -> int:
        operations: int = 2 * prod(rows) * weight[0]
        return operations

    return {} if product is None else {product: count}
