"""Devices: which names are accepted, one error for all others, and memory that is released on each of them."""

from __future__ import annotations

import pytest
import torch

from zoodip_core.diffusion.device import available_devices, choose_device, compute_dtype, empty_cache
from zoodip_core.errors import InvalidInputError

NO_DEVICES = (
    "CPU",
    "gpu",
    "cuda:",
    "cuda:99",
    "cuda:-1",
    "cuda:x",
    "cuda:00",
    " cpu",
    "cpu:1",
    "",
    "meta",
    "vulkan",
)


def _pretend(monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int) -> None:
    """Make torch report `count` devices of one kind: this machine may have none."""
    accelerator = None if kind is None else torch.device(kind)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: accelerator)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.parametrize("name", NO_DEVICES)
def test_other_names_get_one_error(name: str) -> None:
    """Wrong spellings, devices without an allocator and indices out of range give the same error."""
    with pytest.raises(InvalidInputError) as error:
        choose_device(name)
    assert error.value.message.startswith(f"device: got {name!r}; expected cpu")
    assert error.value.field == "device"


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "xpu"])
def test_a_device_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without an accelerator the message says that the CPU is the only device."""
    _pretend(monkeypatch, None, 0)
    with pytest.raises(InvalidInputError) as error:
        choose_device(name)
    expected = f"device: got {name!r}; expected cpu, the only device that torch finds here"
    assert error.value.message == expected


def test_every_available_device_is_accepted() -> None:
    """Each listed name gives the torch device of that name."""
    for name in available_devices():
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_an_accelerator_is_accepted_with_and_without_index(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Two devices have the indices 0 and 1, and the message lists them."""
    _pretend(monkeypatch, kind, 2)
    assert choose_device(kind) == torch.device(kind)
    assert choose_device(f"{kind}:1") == torch.device(kind, 1)
    with pytest.raises(InvalidInputError) as error:
        choose_device(f"{kind}:2")
    expected = f"cpu, {kind}, {kind}:0 or {kind}:1, the devices that torch finds here"
    assert error.value.message == f"device: got '{kind}:2'; expected {expected}"


def test_only_cuda_computes_in_half_precision() -> None:
    """Activations are fp32 on devices whose half precision is not measured."""
    assert compute_dtype(torch.device("cuda", 1), "int8") == torch.float16
    for name in ("cpu", "mps", "xpu"):
        assert compute_dtype(torch.device(name), "int8") == torch.float32


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_the_cache_of_the_device_in_use_is_emptied(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The accelerator's own module empties its cache; the CPU has no cache."""
    emptied: list[str] = []
    monkeypatch.setattr(torch.get_device_module(kind), "empty_cache", lambda: emptied.append(kind))
    empty_cache(torch.device("cpu"))
    assert emptied == []
    empty_cache(torch.device(kind))
    assert emptied == [kind]
