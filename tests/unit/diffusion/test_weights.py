"""The weight loader streams safetensors tensor by tensor, with bounded peak memory, and rejects broken files."""

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
    """Small model: a linear layer, a norm and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.LayerNorm(16)
        self.last = nn.Conv2d(16, 4, 3)


def small(device: str = "meta") -> Small:
    """Return the small model, on the meta device by default."""
    with torch.device(device):
        return Small()


def load(files: list[Path], model: nn.Module | None = None, precision: Precision = "int8") -> nn.Module:
    """Load the files into the small model, on the CPU in fp32."""
    model = small() if model is None else model
    return load_quantized(model, files, precision=precision, device="cpu", dtype=torch.float32)


def save_small(path: Path, changes: Mapping[str, Tensor | None] = {}) -> Path:
    """Save the small model with tensors replaced, added or (None) omitted."""
    tensors = {**small("cpu").state_dict(), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_every_part_gets_the_published_values(family_folder: dict[str, Path], family: str, part: str) -> None:
    """The loaded values equal those of the file, also under CLIP's prefixes. No meta tensor remains."""
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
def test_streaming_equals_quantizing_in_memory(
    tmp_path: Path, precision: Precision, stored: torch.dtype
) -> None:
    """Streaming gives bit-identical results to quantizing the whole model. Norms are not quantized."""
    whole = small("cpu").to(stored)
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    streamed = load([tmp_path / "model.safetensors"], precision=precision).state_dict()
    for name, tensor in quantize_model(whole.float(), precision=precision).state_dict().items():
        assert torch.equal(streamed[name], tensor)


def test_fp16_does_not_replace_layers(tmp_path: Path) -> None:
    """Without quantization, layers are torch's own in the requested dtype, with channels_last kernels."""
    model = load_quantized(
        small(),
        [save_small(tmp_path / "model.safetensors")],
        precision="fp16",
        device="cpu",
        dtype=torch.float16,
        channels_last=True,
    )
    assert type(model.first) is nn.Linear
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    assert model.last.weight.is_contiguous(memory_format=torch.channels_last)


def test_attention_names_of_old_vaes_are_mapped(tmp_path: Path, family_folder: dict[str, Path]) -> None:
    """query, key, value and proj_attn, as in SD1.5's VAE file, map to to_q, to_k, to_v and to_out.0."""
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


def test_tied_weights_share_one_tensor(tmp_path: Path) -> None:
    """A weight with two names, stored once, is a single unquantized tensor under both names."""

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
    ("changes", "message"),
    [
        ({"norm.bias": None}, r"model\.safetensors: norm\.bias is missing \(1 "),
        ({"more.bias": torch.ones(2)}, r"model\.safetensors: unexpected tensor more\.bias"),
        (
            {"first.weight": torch.ones(8, 16)},
            r"first\.weight has shape \(8, 16\); the configuration has \(16, 8\)",
        ),
        ({"first.weight": torch.full((16, 8), torch.nan)}, r"first\.weight holds NaN"),
        ({"norm.weight": torch.full((16,), torch.inf)}, r"norm\.weight holds NaN or overflows"),
        (
            {"first.weight": torch.ones(16, 8, dtype=torch.uint8)},
            r"first\.weight holds U8; expected F64, F32",
        ),
        (
            {"first.weight": torch.full((16, 8), torch.nan).to(torch.float8_e4m3fn)},
            r"first\.weight holds NaN",
        ),
    ],
    ids=["missing", "unexpected", "misshapen", "nan", "inf", "integers", "nan in 8 bits"],
)
def test_wrong_tensors_are_named(tmp_path: Path, changes: dict[str, Tensor | None], message: str) -> None:
    """The error names the file and the tensor."""
    with pytest.raises(InvalidModelError, match=message):
        load([save_small(tmp_path / "model.safetensors", changes)])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_eight_bits_load_as_their_values_in_fp16(
    tmp_path: Path, dtype: torch.dtype, precision: Precision
) -> None:
    """A file of 8-bit floats gives the model of the same values in fp16."""
    weight = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    bias = torch.randn(16, generator=torch.Generator().manual_seed(1)).to(dtype)
    loaded = []
    for name, change in (("eight", lambda given: given), ("half", Tensor.half)):
        path = tmp_path / f"{name}.safetensors"
        changes = {"first.weight": change(weight), "first.bias": change(bias)}
        loaded.append(load([save_small(path, changes)], precision=precision))
    eight, half = (model.first(torch.eye(8)) for model in loaded)
    assert torch.equal(eight, half)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth", ".pkl"])
def test_pickles_are_rejected(tmp_path: Path, suffix: str) -> None:
    """A pickle is never opened."""
    path = tmp_path / f"model{suffix}"
    torch.save(small("cpu").state_dict(), path)
    with pytest.raises(InvalidModelError, match=r"got .*; expected a \.safetensors file"):
        load([path])


@pytest.mark.parametrize("content", ["pickle", "cut", "noise", "empty", "folder", "missing"])
def test_broken_files_are_rejected(tmp_path: Path, content: str) -> None:
    """A file that is not a complete safetensors file gives a typed error with its name."""
    path = tmp_path / "model.safetensors"
    if content == "pickle":
        torch.save(small("cpu").state_dict(), path)
    elif content == "cut":
        path.write_bytes(save_small(path).read_bytes()[:-100])
    elif content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(b"\x80" * 64 if content == "noise" else b"")
    with pytest.raises(InvalidModelError, match=r"model\.safetensors"):
        load([path])


def test_other_formats_are_rejected(tmp_path: Path) -> None:
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
    # VmHWM covers this process only; ru_maxrss also counts the parent process
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(peak - before, quantization_report([model]).size_bytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_never_holds_the_whole_fp16_model(tmp_path: Path) -> None:
    """For 100 M parameters (201 MB in fp16), the peak is the INT8 model of 101 MB and a few tensors of 17 MB."""
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
def test_cuda_never_holds_the_whole_fp16_model(tmp_path: Path) -> None:
    """On CUDA, tensors are quantized on the device one at a time, as the allocator's peak shows."""
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
