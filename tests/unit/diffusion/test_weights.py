"""Safetensors go into a model tensor by tensor, with a bounded peak, and nothing broken goes in at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.tooling.families import FAMILIES
from tests.tooling.models import meta_model
from zoodip_core.config import Precision
from zoodip_core.diffusion.quantize import QuantizedLinear, quantize_model
from zoodip_core.diffusion.weights import load_quantized
from zoodip_core.errors import InvalidModelError


class Small(nn.Module):
    """Two layers and a norm, enough to go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)
        self.last = nn.Conv2d(16, 4, 3)


def small(device: str = "meta") -> Small:
    """The model, without values by default."""
    with torch.device(device):
        return Small()


def load(files: list[Path], model: nn.Module | None = None, precision: Precision = "int8") -> nn.Module:
    """Load into the small model, on the CPU in fp32."""
    model = small() if model is None else model
    return load_quantized(model, files, precision=precision, device="cpu", dtype=torch.float32)


def saved(path: Path, changes: Mapping[str, Tensor | None] = {}) -> Path:
    """A file of the small model with tensors replaced, added or (None) left out."""
    tensors = {**small("cpu").state_dict(), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_every_part_gets_the_published_values(family_folder: dict[str, Path], family: str, part: str) -> None:
    """Each file's values arrive under each of the model's names, prefixes of CLIP included; no meta is left."""
    folder = family_folder[family] / part
    if not folder.is_dir():
        pytest.skip("one text encoder")
    config = json.loads((folder / "config.json").read_text())
    name = config.pop("_class_name")
    if part.startswith("text"):
        config = {key: value for key, value in config.items() if key != "architectures"}
    [file] = folder.glob("*.safetensors")
    model = load([file], meta_model(name, config), "fp32")
    published = load_file(file)
    for key, tensor in model.state_dict().items():
        stored = published[key] if key in published else published[f"text_model.{key}"]
        assert torch.equal(tensor, stored)
    assert not any(
        tensor.is_meta or tensor.requires_grad for tensor in (*model.parameters(), *model.buffers())
    )
    if part.startswith("text"):
        embeddings = model.get_submodule("text_model.embeddings" if part.endswith("2") else "embeddings")
        assert torch.equal(embeddings.position_ids, torch.arange(77)[None])


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("stored", [torch.float16, torch.float32], ids=str)
def test_quantized_on_arrival_is_quantized_in_memory(
    tmp_path: Path, precision: Precision, stored: torch.dtype
) -> None:
    """Streaming gives the bits that quantizing the whole model gives; norms stay as they are."""
    whole = small("cpu").to(stored)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    streamed = load([tmp_path / "model.safetensors"], precision=precision).state_dict()
    for name, tensor in quantize_model(whole.float(), precision=precision).state_dict().items():
        assert torch.equal(streamed[name], tensor)


def test_fp16_leaves_every_layer_as_it_is(tmp_path: Path) -> None:
    """Without quantization layers are torch's own, in the dtype asked for, kernels in channels_last order."""
    model = load_quantized(
        small(),
        [saved(tmp_path / "model.safetensors")],
        precision="fp16",
        device="cpu",
        dtype=torch.float16,
        channels_last=True,
    )
    assert type(model.first) is nn.Linear
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert model.last.weight.is_contiguous(memory_format=torch.channels_last)


def test_names_of_old_vaes_are_understood(tmp_path: Path, family_folder: dict[str, Path]) -> None:
    """query, key, value and proj_attn, as in SD1.5's own VAE file, are to_q, to_k, to_v and to_out.0."""
    file = family_folder["sd1"] / "vae" / "diffusion_pytorch_model.safetensors"
    old = {}
    for name, tensor in load_file(file).items():
        for new, former in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{former}.")
        old[name] = tensor
    assert any("proj_attn" in name for name in old)
    save_file(old, tmp_path / "old.safetensors")
    config = FAMILIES["sd1"].vae
    loaded = load([tmp_path / "old.safetensors"], meta_model("AutoencoderKL", config)).state_dict()
    for name, tensor in load([file], meta_model("AutoencoderKL", config)).state_dict().items():
        assert torch.equal(loaded[name], tensor)


def test_tied_weights_stay_one_tensor(tmp_path: Path) -> None:
    """A weight with two names, stored once, is one unquantized tensor under both."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.table.weight

    with torch.device("meta"):
        model = Tied()
    save_file({"table.weight": torch.randn(6, 4)}, tmp_path / "model.safetensors")
    loaded = load([tmp_path / "model.safetensors"], model)
    assert torch.equal(loaded.head.weight, loaded.table.weight)
    assert loaded.head.weight.data_ptr() == loaded.table.weight.data_ptr()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm.bias": None}, r"model\.safetensors: norm\.bias is missing \(1 "),
        ({"more.bias": torch.ones(2)}, r"model\.safetensors: unexpected tensor more\.bias"),
        ({"first.weight": torch.ones(8, 16)}, r"first\.weight has shape \(8, 16\), .* \(16, 8\)"),
        ({"first.weight": torch.full((16, 8), torch.nan)}, r"first\.weight holds NaN"),
        ({"norm.weight": torch.full((16,), torch.inf)}, r"norm\.weight holds NaN or overflows"),
        ({"first.weight": torch.ones(16, 8, dtype=torch.uint8)}, r"first\.weight holds U8"),
    ],
    ids=["missing", "unexpected", "misshapen", "nan", "inf", "integers"],
)
def test_wrong_tensors_are_named(tmp_path: Path, changes: dict[str, Tensor | None], words: str) -> None:
    """The error names the file and the tensor."""
    with pytest.raises(InvalidModelError, match=words):
        load([saved(tmp_path / "model.safetensors", changes)])


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth", ".pkl"])
def test_pickles_are_refused(tmp_path: Path, suffix: str) -> None:
    """A pickle is never opened, whatever it holds."""
    path = tmp_path / f"model{suffix}"
    torch.save(small("cpu").state_dict(), path)
    with pytest.raises(InvalidModelError, match=r"got .*; expected a \.safetensors file"):
        load([path])


@pytest.mark.parametrize("content", ["pickle", "cut", "noise", "empty", "folder", "missing"])
def test_broken_files_are_refused(tmp_path: Path, content: str) -> None:
    """A file that is no whole safetensors file gives one clear error with its name."""
    path = tmp_path / "model.safetensors"
    if content == "pickle":
        torch.save(small("cpu").state_dict(), path)
    elif content == "cut":
        path.write_bytes(saved(path).read_bytes()[:-100])
    elif content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(b"\x80" * 64 if content == "noise" else b"")
    with pytest.raises(InvalidModelError, match=r"model\.safetensors"):
        load([path])


def test_a_file_that_is_neither_is_refused(tmp_path: Path) -> None:
    """Only .safetensors files are read."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidModelError, match=r"model\.gguf; expected a \.safetensors file"):
        load([tmp_path / "model.gguf"])


PEAK = """
import sys
from pathlib import Path
import psutil, torch
from torch import nn
from tests.tooling.streaming import write_random_weights
from zoodip_core.diffusion.quantize import quantization_report
from zoodip_core.diffusion.weights import load_quantized

torch.set_num_threads(1)
path = Path(sys.argv[1])
with torch.device("meta"):
    model = nn.Sequential(*[nn.Linear(4096, 2048) for _ in range(12)])
if sys.argv[2] == "write":
    write_random_weights(model, path, dtype=torch.float16)
else:
    before = psutil.Process().memory_info().rss
    load_quantized(model, [path], precision="int8", device="cpu", dtype=torch.float32)
    # of this program alone: ru_maxrss also counts the parent that forked it
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(peak - before, quantization_report([model]).size_bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_never_holds_the_fp16_model_beside_the_int8_one(tmp_path: Path) -> None:
    """100 M parameters (201 MB in fp16) in INT8: the peak is the 101 MB kept and a few tensors of 17 MB."""
    path = tmp_path / "model.safetensors"
    figures = ""
    for task in ("write", "load"):
        command = [sys.executable, "-c", PEAK, str(path), task]
        figures = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    growth, held = (int(figure) for figure in figures.split())
    assert 100e6 < held < 102e6
    assert growth < held + 80e6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_never_holds_the_fp16_model_beside_the_int8_one(tmp_path: Path) -> None:
    """On CUDA tensors are quantized there, one at a time: the allocator's peak shows it."""
    layers = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(30)])
    save_file(layers.half().state_dict(), tmp_path / "model.safetensors")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(30)])
    load_quantized(
        model, [tmp_path / "model.safetensors"], precision="int8", device="cuda", dtype=torch.float16
    )
    assert isinstance(model[0], QuantizedLinear)
    assert torch.cuda.max_memory_allocated() - before < 30 * 1024**2 + 4 * 4 * 1024**2
