"""Streaming weight loader: reads safetensors files tensor by tensor and quantizes each tensor at once.

The unquantized model is never in memory as a whole. The peak is the quantized model and one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoodip_core.base_models.tensor_files import THIRDS, StoredTensor, stored_tensors
from zoodip_core.base_models.tensor_values import FLOATS
from zoodip_core.config import Precision
from zoodip_core.diffusion.quantize import is_quantizable, quantize_layer
from zoodip_core.errors import InvalidModelError

# names of attention layers in VAEs before diffusers 0.18
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)
_COMPUTED = ("position_ids",)  # computed by the model; old CLIP files contain it


def load_quantized(
    model: nn.Module,
    files: Sequence[Path],
    *,
    precision: Precision,
    device: torch.device | str,
    dtype: torch.dtype,
    channels_last: bool = False,
) -> nn.Module:
    """Load the weights into the model in place, freeze it and set evaluation mode.

    Args:
        model: model built from its configuration under `torch.device("meta")`.
        files: its weight files (see `weight_files`).
        precision: "int8" and "nf4" quantize every Linear and Conv2d; "fp16" and "fp32" store all weights in `dtype`.
        device: device that each tensor is moved to before it is quantized.
        dtype: dtype of biases, norms, embeddings and activations.
        channels_last: whether to store convolution kernels in channels_last order.

    Returns:
        `model`.

    Raises:
        InvalidModelError: a file is damaged, or a tensor is missing, unexpected, of a wrong shape or not finite. The
            message names both.
    """
    sources = check_names(model, files)
    tied = _tied_names(model)
    bits = precision if precision in ("int8", "nf4") else None
    for name, source in sources.items():
        owner, _, attribute = name.rpartition(".")
        layer = model.get_submodule(owner)
        if bits and attribute == "weight" and is_quantizable(layer) and name not in tied:
            tensor = _read(source).to(device)
            weight = quantize_layer(layer, tensor, precision=bits, dtype=dtype, channels_last=channels_last)
            stored = weight.scale
        else:
            stored = _copy(_read(source), device, dtype, channels_last=channels_last)
            for place in tied.get(name, (name,)):
                _set(model, place, stored)
        _check_finite(source, stored)
    _compute_buffers(model, device)
    return model.requires_grad_(False).eval()


def check_names(model: nn.Module, files: Sequence[Path]) -> dict[str, StoredTensor]:
    """Validate names, shapes and dtypes of the tensors in the files; return them by their names in the model.

    Args:
        model: model built from its configuration; its weights are not read.
        files: its weight files (see `weight_files`).

    Raises:
        InvalidModelError: a file is damaged, or a tensor is missing, unexpected, of a wrong shape or kind of dtype.
    """
    return _match_tensors(model, {tensor.name: tensor for path in files for tensor in stored_tensors(path)})


def check_values(files: Sequence[Path]) -> None:
    """Validate that every value is finite; one tensor at a time is in memory.

    Raises:
        InvalidModelError: a file is damaged, or a value is NaN or infinite.
    """
    for path in files:
        for tensor in stored_tensors(path):
            values = _read(tensor)
            if values.is_floating_point():
                _check_finite(tensor, values)


def _check_finite(source: StoredTensor, values: Tensor) -> None:
    if not all(extreme.isfinite() for extreme in values.aminmax()):  # aminmax propagates NaN
        raise InvalidModelError(f"{source.path}: {source.name} holds NaN or overflows {values.dtype}")


def _copy(tensor: Tensor, device: torch.device | str, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """Copy the tensor with a single allocation; temporary ones would fragment memory."""
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    order = torch.channels_last if channels_last and tensor.ndim == 4 else torch.contiguous_format
    return tensor.to(device, kind, copy=True, memory_format=order)


def _read(tensor: StoredTensor) -> Tensor:
    """Return the view of a tensor, memory-mapped from the file.

    The file is opened for each tensor, because pages of an open mapping count as resident memory.

    Raises:
        InvalidModelError: the file is missing or damaged.
    """
    try:
        with safe_open(tensor.path, framework="pt") as file:
            if tensor.place.view in THIRDS:
                values: Tensor = file.get_slice(tensor.place.key)[tensor.rows]
            else:
                values = file.get_tensor(tensor.place.key)
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(f"{tensor.path} cannot be read as safetensors: {error}") from error
    if values.dtype in _EIGHT_BITS:
        values = values.half()  # exact
    if tensor.place.view == "transposed":
        return values.T
    return values.reshape(tensor.shape) if tensor.place.view == "matrix" else values


def _match_tensors(model: nn.Module, sources: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Map each name in the model to its tensor in the files, checking names, shapes and dtypes.

    Raises:
        InvalidModelError: a tensor is missing, unexpected, or of another shape or kind of dtype.
    """
    expected = model.state_dict()
    matched: dict[str, StoredTensor] = {}
    for source in sources.values():
        name = _name_in_model(source.name, expected)
        if name is None:
            if source.name.endswith(_COMPUTED):
                continue
            raise InvalidModelError(
                f"{source.path}: unexpected tensor {source.name}; the configuration has no such layer"
            )
        shape = tuple(expected[name].shape)
        if source.shape != shape:
            raise InvalidModelError(
                f"{source.path}: {source.name} has shape {source.shape}; the configuration has {shape}"
            )
        if expected[name].is_floating_point() and source.stored.dtype not in FLOATS:
            raise InvalidModelError(
                f"{source.path}: {source.name} holds {source.stored.dtype}; expected {', '.join(FLOATS)}"
            )
        matched[name] = source
    tied = _tied_names(model)
    missing = [name for name in expected if matched.keys().isdisjoint(tied.get(name, (name,)))]
    if missing:
        files = ", ".join(sorted({str(source.path) for source in sources.values()})) or "no file"
        raise InvalidModelError(f"{files}: {missing[0]} is missing ({len(missing)} tensors in all)")
    return matched


def _name_in_model(name: str, expected: Mapping[str, Tensor]) -> str | None:
    """Return the name in the model of a tensor in a file, or None if the model has no such tensor.

    Old VAEs use other names for attention layers. transformers 5 dropped `text_model.` from CLIPTextModel, and one
    `vision_model.` from the vision model of a safety checker.
    """
    parts = name.split(".")
    if len(parts) > 1 and parts[-2] in _RENAMED:
        parts[-2] = _RENAMED[parts[-2]]
    renamed = ".".join(parts)
    candidates = (
        name,
        renamed,
        name.removeprefix("text_model."),
        f"text_model.{name}",
        name.replace("vision_model.vision_model.", "vision_model."),
    )
    return next((candidate for candidate in candidates if candidate in expected), None)


def _tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return all names of each tied weight, by each of its names."""
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
    """Compute CLIP's position_ids, which no file needs to contain, and move all other buffers to the device.

    Raises:
        InvalidModelError: another buffer has no value.
    """
    for name, buffer in list(model.named_buffers()):
        if not buffer.is_meta:
            _set(model, name, buffer.to(device))
        elif name.endswith(_COMPUTED):
            _set(model, name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
        else:
            raise InvalidModelError(f"buffer {name} has no value; no file contains it")
