"""Writes the pipeline folder of a checkpoint in one file: configurations, tokenizers, and maps of its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from zoodip_core.base_models.families import Family
from zoodip_core.base_models.safetensors_header import Header, TensorInfo, read_header
from zoodip_core.base_models.single_file import configs
from zoodip_core.base_models.single_file.noise_process import (
    NoiseProcess,
    PredictionType,
    detect_noise_process,
)
from zoodip_core.base_models.single_file.recognize import ACCEPTED, TEXT, UNET, VAE, recognize
from zoodip_core.base_models.single_file.text_names import clip_places, open_clip_places
from zoodip_core.base_models.single_file.tokenizer_files import write_tokenizer
from zoodip_core.base_models.single_file.unet_names import unet_name, unet_structure
from zoodip_core.base_models.single_file.vae_names import is_attention_matrix, vae_name
from zoodip_core.base_models.tensor_files import Place, StoredTensor, write_map
from zoodip_core.errors import InvalidModelError

_EMA = "model_ema."


def write_pipeline_folder(
    folder: Path,
    checkpoint: Path,
    *,
    listed_as: str,
    prediction_type: PredictionType | None = None,
    ema: bool = False,
) -> dict[str, str]:
    """Write a folder in diffusers' layout whose weights stay in the checkpoint.

    Args:
        folder: destination; exists and is empty.
        checkpoint: a .safetensors file with U-Net, text encoder and VAE.
        listed_as: path of the checkpoint for the maps; a relative path is relative to a network's folder.
        prediction_type: what the U-Net predicts; None detects it.
        ema: whether to use the moving average of the U-Net's weights instead of the last weights.

    Returns:
        Notes for people: how the prediction type was found, and which copy of the U-Net is used if there are two.

    Raises:
        InvalidModelError: the file is not such a checkpoint; the message names what it is.
    """
    header = read_header(checkpoint)
    family = recognize(checkpoint, header)
    process = detect_noise_process(checkpoint, header, family, prediction_type)
    has_copy = f"{_EMA}diffusion_modelinput_blocks00weight" in header.tensors
    if ema and not has_copy:
        raise InvalidModelError.mismatch(
            "ema", got=f"{checkpoint}, which has no {_EMA}* tensors", expected="a checkpoint with both copies"
        )
    try:
        _write(folder, header, family, process, listed_as=listed_as, ema=ema)
    except (LookupError, ValueError) as error:
        raise InvalidModelError.mismatch(
            "base_model", got=f"{checkpoint}, which has other layers ({error})", expected=ACCEPTED
        ) from error
    copies = "the moving average (EMA)" if ema else "the last weights; the moving average (EMA) is not read"
    return {"prediction_type_from": process.found, **({"weights": copies} if has_copy else {})}


def _write(
    folder: Path, header: Header, family: Family, process: NoiseProcess, *, listed_as: str, ema: bool
) -> None:
    vae = _without_prefix(header, VAE)
    levels = configs.vae_levels(vae)
    side_px = configs.side_px(family, process, header.metadata)
    pooled_width = _write_text_encoders(folder, header, family, listed_as)
    unet = _without_prefix(header, UNET)
    side_cells = side_px // 2 ** (levels - 1)
    unet_config = configs.unet_config(unet, family, side_cells=side_cells, pooled_width=pooled_width)
    _write_part(folder / "unet", unet_config, _unet_places(unet, header, ema=ema), listed_as)
    vae_config = configs.vae_config(vae, family, side_px=side_px)
    _write_part(folder / "vae", vae_config, _vae_places(vae, levels), listed_as)
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", configs.scheduler_config(family, process))
    _write_json(folder / "model_index.json", configs.pipeline_index(family))


def _write_text_encoders(folder: Path, header: Header, family: Family, listed_as: str) -> int:
    """Write the text encoders and tokenizers; return the width of the last encoder's projection."""
    width = 0
    for suffix, prefix in zip(("", "_2"), TEXT[family], strict=False):
        tensors = _without_prefix(header, prefix)
        open_clip, projected = prefix.endswith(".model."), suffix == "_2"
        if open_clip:
            layers = configs.open_clip_layers(tensors, family)
            found = [open_clip_places(key, layers=layers, projected=projected) for key in tensors]
        else:
            found = [clip_places(key) for key in tensors]
        places = {name: place for one in found for name, place in one.items()}
        named = {name: _view(tensors[place.key], place) for name, place in places.items()}
        config = (
            configs.open_clip_config(named, projected=projected) if open_clip else configs.clip_config(named)
        )
        _write_part(folder / f"text_encoder{suffix}", config, _prefixed(places, prefix), listed_as)
        write_tokenizer(folder / f"tokenizer{suffix}", open_clip=open_clip)
        width = int(config["projection_dim"])
    return width


def _unet_places(tensors: Mapping[str, TensorInfo], header: Header, *, ema: bool) -> dict[str, Place]:
    structure = unet_structure(tensors)
    places = {}
    for key in tensors:
        name = unet_name(key, structure)
        if name is None:
            raise ValueError(f"{UNET}{key}")
        stored = f"{UNET}{key}"
        if ema:
            stored = _EMA + stored.removeprefix("model.").replace(".", "")
        places[name] = Place(stored)
    if ema and any(place.key not in header.tensors for place in places.values()):
        raise ValueError(f"{_EMA}* lacks tensors of {UNET}*")
    return places


def _vae_places(tensors: Mapping[str, TensorInfo], levels: int) -> dict[str, Place]:
    names = {key: vae_name(key, levels) for key in tensors}
    return {
        name: Place(f"{VAE}{key}", "matrix" if is_attention_matrix(name) else "whole")
        for key, name in names.items()
        if name is not None
    }


def _view(info: TensorInfo, place: Place) -> TensorInfo:
    """Return shape and data type of the view of a tensor."""
    return TensorInfo(StoredTensor(Path(), "", place, info).shape, info.dtype, info.start)


def _without_prefix(header: Header, prefix: str) -> dict[str, TensorInfo]:
    return {key.removeprefix(prefix): info for key, info in header.tensors.items() if key.startswith(prefix)}


def _prefixed(places: Mapping[str, Place], prefix: str) -> dict[str, Place]:
    return {name: Place(prefix + place.key, place.view) for name, place in places.items()}


def _write_part(folder: Path, config: configs.Config, places: Mapping[str, Place], listed_as: str) -> None:
    folder.mkdir()
    _write_json(folder / "config.json", config)
    write_map(folder, listed_as, places)


def _write_json(path: Path, values: configs.Config) -> None:
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")
