"""Weights go from safetensors files into a model one tensor at a time, quantized as they arrive.

So neither the fp32 nor the whole fp16 model is ever held beside the INT8 one: the peak is the quantized model
and one tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoodip_core.config import Precision
from zoodip_core.diffusion.quantize import is_quantizable, quantize_layer
from zoodip_core.errors import InvalidModelError

_RENAMED = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}  # VAEs before diffusers 0.18
_COMPUTED = ("position_ids",)  # old CLIP files hold it; the model computes it


@dataclass(frozen=True)
class _Source:
    """Where a tensor lies."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> Tensor:
        """The tensor, mapped from the file.

        The file is opened anew each time: pages of a mapping that stays open count as resident memory.
        """
        with _opened(self.path) as file:
            return file.get_tensor(self.name)  # type: ignore[no-any-return]


def load_quantized(
    model: nn.Module,
    files: Sequence[Path],
    *,
    precision: Precision,
    device: torch.device | str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> nn.Module:
    """The model itself, filled from the files, frozen and in evaluation mode on the device.

    Args:
        model: Built from its configuration under `torch.device("meta")`.
        files: Its .safetensors files (`weight_files` finds them).
        precision: "int8" and "nf4" quantize every Linear and Conv2d; "fp16" and "fp32" none (`dtype` rules).
        device: Where each tensor goes before it is quantized.
        dtype: Of biases, norms, embeddings and activations.
        channels_last: Whether kernels of convolutions are kept in that memory format.

    Raises:
        InvalidModelError: names the tensor and file that is missing, unexpected, misshapen or broken.
    """
    sources = _placed(model, {source.name: source for path in files for source in _sources(path)})
    twins = _twins(model)
    bits = precision if precision in ("int8", "nf4") else None
    for name, source in sources.items():
        owner, _, attribute = name.rpartition(".")
        layer = model.get_submodule(owner)
        if bits and attribute == "weight" and is_quantizable(layer) and name not in twins:
            tensor = source.read().to(device)
            weight = quantize_layer(layer, tensor, precision=bits, dtype=dtype, channels_last=channels_last)
            numbers = weight.scale
        else:
            numbers = _copied(source.read(), device, dtype, channels_last=channels_last)
            for place in twins.get(name, (name,)):
                _set(model, place, numbers)
        if not all(extreme.isfinite() for extreme in numbers.aminmax()):  # NaN comes through both
            raise InvalidModelError(f"{source.path}: {source.name} holds NaN or overflows {dtype}")
    _compute_buffers(model, device)
    return model.requires_grad_(False).eval()


def _copied(tensor: Tensor, device: torch.device | str, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """A copy in memory, in one allocation: freed ones in between would leave holes."""
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    order = torch.channels_last if channels_last and tensor.ndim == 4 else torch.contiguous_format
    return tensor.to(device, kind, copy=True, memory_format=order)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the file for reading; any fault becomes one error."""
    if path.suffix != ".safetensors":  # other formats, such as pickle, can run code
        raise InvalidModelError.mismatch("base_model", got=path, expected="a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(f"{path} cannot be read as safetensors: {error}") from error


def _sources(path: Path) -> list[_Source]:
    with _opened(path) as file:
        names = file.offset_keys()  # in the order of the bytes, so that a disk reads forward
        slices = [(name, file.get_slice(name)) for name in names]
        return [_Source(path, name, tuple(view.get_shape()), view.get_dtype()) for name, view in slices]


def _placed(model: nn.Module, sources: dict[str, _Source]) -> dict[str, _Source]:
    """Name in the model → where its values lie, with every name and shape checked.

    Raises:
        InvalidModelError: a tensor is missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    placed: dict[str, _Source] = {}
    for source in sources.values():
        name = _name_in_model(source.name, wanted)
        if name is None:
            if source.name.endswith(_COMPUTED):
                continue
            raise InvalidModelError(
                f"{source.path}: unexpected tensor {source.name}, not in the configuration"
            )
        shape = tuple(wanted[name].shape)
        if source.shape != shape:
            raise InvalidModelError(
                f"{source.path}: {source.name} has shape {source.shape}, the configuration says {shape}"
            )
        if wanted[name].is_floating_point() and not source.dtype.startswith(("F", "BF")):
            raise InvalidModelError(
                f"{source.path}: {source.name} holds {source.dtype}, not floating-point numbers"
            )
        placed[name] = source
    twins = _twins(model)
    missing = [name for name in wanted if placed.keys().isdisjoint(twins.get(name, (name,)))]
    if missing:
        files = ", ".join(sorted({str(source.path) for source in sources.values()})) or "no file"
        raise InvalidModelError(f"{files}: {missing[0]} is missing ({len(missing)} tensors in all)")
    return placed


def _name_in_model(name: str, wanted: Mapping[str, Tensor]) -> str | None:
    """The model's name of a published tensor; None if it has none.

    Old VAEs name their attention otherwise, and transformers 5 dropped `text_model.` from CLIPTextModel.
    """
    parts = name.split(".")
    if len(parts) > 1 and parts[-2] in _RENAMED:
        parts[-2] = _RENAMED[parts[-2]]
    renamed = ".".join(parts)
    candidates = (name, renamed, name.removeprefix("text_model."), f"text_model.{name}")
    return next((candidate for candidate in candidates if candidate in wanted), None)


def _twins(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """For each parameter that has several names in the model (tied weights): all of them."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name: tuple(group) for group in names.values() if len(group) > 1 for name in group}


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    layer = model.get_submodule(owner)
    if attribute in layer._buffers:
        layer._buffers[attribute] = tensor
    else:
        layer._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)


def _compute_buffers(model: nn.Module, device: torch.device | str) -> None:
    """Give values to what no file holds: CLIP's position_ids; other buffers are moved."""
    for name, buffer in list(model.named_buffers()):
        if not buffer.is_meta:
            _set(model, name, buffer.to(device))
        elif name.endswith(_COMPUTED):
            _set(model, name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
        else:
            raise InvalidModelError(f"buffer {name} has no value: no file holds it")
