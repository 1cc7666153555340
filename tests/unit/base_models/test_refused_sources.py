"""Unusable sources of `zoodip models add`: each is one clear error, and nothing is half-registered."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tooling.registration import UNET, Tensors, minimal, refusal
from zoodip_core.base_models.single_file.recognize import ACCEPTED

ONE = torch.zeros(2, 2)
OTHER_FILES: dict[str, tuple[Tensors, str]] = {
    "LoRA": ({"lora_unet_down_blocks_0_attentions_0.lora_down.weight": ONE}, "a LoRA"),
    "LoRA of diffusers": ({"unet.down_blocks.0.attentions.0.to_k.lora_A.weight": ONE}, "a LoRA"),
    "older LoRA of diffusers": (
        {"unet.mid_block.attentions.0.attn1.processor.to_q_lora.down.weight": ONE},
        "a LoRA",
    ),
    "LoRA of a text encoder": ({"text_encoder.q_proj.lora_linear_layer.up.weight": ONE}, "a LoRA"),
    "LyCORIS": ({"lycoris_unet_mid_block.hada_w1_a": ONE}, "a LoRA"),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": ONE}, "a ControlNet"),
    "ControlNet of diffusers": ({"controlnet_cond_embedding.conv_in.weight": ONE}, "a ControlNet"),
    "SD3": ({f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": ONE}, "Stable Diffusion 3"),
    "FLUX": ({"double_blocks.0.img_attn.qkv.weight": ONE}, "FLUX"),
    "FLUX of diffusers": ({"single_transformer_blocks.0.attn.to_k.weight": ONE}, "FLUX"),
    "PixArt": ({"adaln_single.linear.weight": ONE}, "PixArt"),
    "image variation": (
        minimal(**{"noise_augmentor.betas": ONE}),
        r"an image-variation model \(unCLIP\)",
    ),
    "inpainting": (
        minimal(**{f"{UNET}input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}),
        r"an inpainting model \(a U-Net with 9 input and 4 output channels\)",
    ),
    "image editing": (
        minimal(**{f"{UNET}input_blocks.0.0.weight": torch.zeros(8, 8, 3, 3)}),
        "an image-editing model",
    ),
    "VAE": (
        {"encoder.conv_in.weight": ONE, "decoder.conv_in.weight": ONE, "quant_conv.weight": ONE},
        "a VAE alone",
    ),
    "VAE with prefix": ({"first_stage_model.decoder.conv_in.weight": ONE}, "a VAE alone"),
    "U-Net": ({"input_blocks.0.0.weight": ONE}, "a U-Net alone"),
    "U-Net of diffusers": (
        {"down_blocks.0.resnets.0.conv1.weight": ONE, "conv_in.weight": ONE},
        "a U-Net in diffusers",
    ),
    "text encoder": ({"text_model.embeddings.token_embedding.weight": ONE}, "a text encoder alone"),
    "embedding of A1111": ({"emb_params": ONE}, "a textual inversion embedding"),
    "embedding of diffusers": ({"<cat>": torch.zeros(768)}, "a textual inversion embedding"),
    "embedding of SDXL": ({"clip_l": ONE, "clip_g": ONE}, "a textual inversion embedding"),
    "embedding of another name": ({"*": torch.zeros(1, 768)}, "a textual inversion embedding"),
    "EDM": (minimal(edm_mean=ONE), "a checkpoint with the EDM noise process"),
    "refiner": (
        minimal(
            **{
                "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": None,
                "conditioner.embedders.0.model.ln_final.weight": ONE,
            }
        ),
        "the refiner of SDXL",
    ),
    "no text encoder": (
        minimal(**{"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": None}),
        "a checkpoint without its text encoder",
    ),
    "no VAE": (minimal(**{"first_stage_model.decoder.conv_in.weight": None}), "a checkpoint without its VAE"),
    "other layers": (minimal(), "which has other layers"),
    "other network": ({f"encoder{k}.x": ONE for k in range(9)}, "a file of 9 tensors, such as encoder0.x"),
    "nothing": ({}, "a file without tensors"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_another_kind_of_file_is_named(catalog: Path, tmp_path: Path, kind: str) -> None:
    """The message names the file, says what it is, and says what is accepted."""
    tensors, name = OTHER_FILES[kind]
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, tmp_path / "thing.safetensors")
    message = refusal(catalog, "thing", tmp_path / "thing.safetensors")
    assert re.search(rf"got .*thing\.safetensors, which (is )?{name.removeprefix('which ')}", message), (
        message
    )
    assert message.endswith(f"expected {ACCEPTED}")


def _header(change: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[bytes], bytes]:
    """Return a function that edits the header of a file, so that it no longer describes the data."""

    def edit(content: bytes) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        encoded = json.dumps(header).encode()
        return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]

    return edit


NAME = f"{UNET}input_blocks.0.0.weight"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda content: content[:-100], "bytes, but its header describes .*: cut off or changed"),
    "cut in the header": (
        lambda content: content[:40],
        "has 40 bytes, but a header of .*: cut off or changed",
    ),
    "more data": (
        lambda content: content + b"0" * 8,
        "bytes, but its header describes .*: cut off or changed",
    ),
    "empty": (lambda _: b"", "is of another format"),
    "long header": (lambda content: struct.pack("<Q", 2**60) + content[8:], "is of another format"),
    "shape": (
        _header(lambda header: header[NAME].update(shape=[8, 4, 3, 4])),
        "gives .* bytes, but its shape needs",
    ),
    "offsets": (
        _header(lambda header: header[NAME].update(data_offsets=[0, 2**40])),
        "gives .*, but its shape needs",
    ),
    "overlap": (
        _header(lambda header: header[NAME].update(data_offsets=[0, 1152], shape=[8, 4, 3, 3])),
        "has a header that puts .*, but the tensor before ends at",
    ),
    "negative": (
        _header(lambda header: header[NAME].update(data_offsets=[-4, 8])),
        "without data_offsets for",
    ),
    "dtype": (_header(lambda header: header[NAME].update(dtype="F4")), "as 'F4', which is not supported"),
    "no JSON": (lambda content: content[:9] + b"\xff" + content[10:], "is of another format|not start with"),
    "pickle": (lambda _: b"PK\x03\x04" + b"0" * 99, "is a pickle or another zip archive"),
    "old pickle": (lambda _: b"\x80\x02}q\x01." + b"0" * 99, "is a pickle"),
    "LFS pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "is a Git LFS pointer",
    ),
    "login page": (lambda _: b"<!DOCTYPE html><html>" + b" " * 50, "is an HTML page"),
    "GGUF": (lambda _: b"GGUF" + b"0" * 99, "is a GGUF file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(catalog: Path, tmp_path: Path, damage: str) -> None:
    """A file whose header does not describe its data is refused before any weight is read."""
    path = tmp_path / "thing.safetensors"
    save_file(minimal(second=torch.zeros(2000)), path)
    edit, message = DAMAGES[damage]
    path.write_bytes(edit(path.read_bytes()))
    found = refusal(catalog, "thing", path)
    assert re.search(rf"thing\.safetensors .*({message})", found), found
    assert found.endswith("expected a complete .safetensors file")


def _without_weights(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        file.unlink()


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (_without_weights, r"got no weights in .*; expected .*\.safetensors"),
    "no text encoder": (lambda folder: shutil.rmtree(folder / "text_encoder"), "text_encoder/config.json"),
    "empty": (_remove_all, "a folder without model_index.json; expected a folder in diffusers' layout"),
    "shapes": (
        lambda folder: _edit(
            folder / "unet/diffusion_pytorch_model.safetensors", {"conv_in.weight": torch.zeros(1)}
        ),
        r"conv_in.weight has shape \(1,\)",
    ),
    "missing tensor": (
        lambda folder: _edit(
            folder / "vae/diffusion_pytorch_model.safetensors", {"decoder.conv_in.bias": None}
        ),
        r"decoder.conv_in.bias is missing",
    ),
    "NaN": (
        lambda folder: _edit(
            folder / "vae/diffusion_pytorch_model.safetensors",
            {"decoder.conv_out.bias": torch.full((3,), torch.nan)},
        ),
        r"decoder.conv_out.bias holds NaN",
    ),
}


def _edit(file: Path, changes: dict[str, Tensor | None]) -> None:
    tensors = load_file(file) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)


@pytest.mark.parametrize("fault", FOLDERS)
def test_an_incomplete_folder_is_named(catalog: Path, source: Path, tmp_path: Path, fault: str) -> None:
    """Missing weights, parts and tensors are found before the model is in the catalog."""
    shutil.copytree(source / "parts", tmp_path / "parts")
    change, message = FOLDERS[fault]
    change(tmp_path / "parts")
    found = refusal(catalog, "thing", tmp_path / "parts")
    assert re.search(message, found), found


def test_the_folder_of_one_network_and_a_folder_around_a_checkpoint(
    catalog: Path, source: Path, tmp_path: Path
) -> None:
    """The message says what the folder is, and to give the file instead."""
    assert "the folder of one network" in refusal(catalog, "x", source / "parts" / "unet")
    shutil.copy(source / "model.safetensors", tmp_path / "catalog" / "model.safetensors")
    assert "with model.safetensors: add a checkpoint by its file" in refusal(
        catalog, "x", tmp_path / "catalog"
    )
