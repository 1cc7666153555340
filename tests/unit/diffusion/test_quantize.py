"""Weights are rounded by Eq. (2), activations never, and quantized layers work like torch's layers."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.tooling.families import FAMILIES, sd15
from tests.tooling.models import build_family, meta_model
from zoodip_core.diffusion.quantize import (
    QUANTIZED,
    Bits,
    Int8Weight,
    Nf4Weight,
    QuantizedConv2d,
    QuantizedLinear,
    is_quantizable,
    quantization_report,
    quantize_model,
)
from zoodip_core.diffusion.weights import load_quantized

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((48, 40), (16, 8, 3, 3), (24, 12, 1, 1))


def weight_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return a weight with channels of very different magnitude, as in trained layers."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-3, 0, shape[0]).view(-1, *[1] * (len(shape) - 1))
    return torch.randn(shape, generator=generator) * sizes


def relative_error(approximate: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference divided by the norm of `exact`."""
    return float((approximate.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_error_is_at_most_half_a_step(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Apart from the rounding to the compute dtype, no weight changes by more than half its channel's step."""
    weight = weight_of(shape)
    code = Int8Weight(weight, dtype)
    step = code.scale.float()
    rounding = (
        weight.abs() * torch.finfo(dtype).eps * 1.5
    )  # rounding of the scale (clamps the extreme) and of the product
    assert code.values.dtype == torch.int8
    assert ((code().float() - weight).abs() <= step * 0.5 + rounding).all()


def test_int8_scales_belong_to_output_channels() -> None:
    """Each channel has the smallest scale that clamps no weight to Eq. (2)'s bounds, −128 and 127."""
    weight = weight_of((16, 8, 3, 3))
    code = Int8Weight(weight, torch.float32)
    flat = weight.flatten(1)
    expected = torch.maximum(flat.amax(1) / 127, -flat.amin(1) / 128)
    torch.testing.assert_close(code.scale.flatten(), expected)
    extremes = code.values.flatten(1)
    assert ((extremes.amax(1) == 127) | (extremes.amin(1) == -128)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_scale_in_16_bits_costs_no_accuracy(dtype: torch.dtype) -> None:
    """The error is within 3 % of that of fp32 scales, because weights are divided by the rounded scale."""
    weight = torch.randn(64, 576, generator=torch.Generator().manual_seed(1))
    exact = relative_error(Int8Weight(weight, torch.float32)(), weight)
    code = Int8Weight(weight, dtype)
    assert relative_error(code.values * code.scale.float(), weight) < exact * 1.03


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "allowed"), [(1e-2, 0.0085), (1e-3, 0.0085), (1e-4, 0.0085), (1e-5, 0.011)])
def test_small_channels_keep_their_accuracy(size: float, allowed: float, dtype: torch.dtype) -> None:
    """A scale can be subnormal in fp16, so a channel of standard deviation 1e-4 loses no more than one of 1."""
    weight = torch.randn(64, 1024, generator=torch.Generator().manual_seed(1)) * size
    code = Int8Weight(weight, dtype)
    assert relative_error(code.values * code.scale.float(), weight) < allowed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (5, 7), (3, 3, 3, 3)], ids=str)
def test_nf4_keeps_the_shape_with_the_usual_error(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Kernels, odd sizes and partial blocks keep their shape, with NF4's usual error of about 9 %."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) / 10
    back = Nf4Weight(weight, dtype)()
    assert back.shape == weight.shape
    assert back.dtype == dtype
    assert relative_error(back, weight) < 0.13


@pytest.mark.parametrize("code", [Int8Weight, Nf4Weight])
def test_memory_format_is_kept(code: type[Int8Weight | Nf4Weight]) -> None:
    """A channels_last kernel stays channels_last, with an error as small as in contiguous order."""
    weight = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    ordered = weight.contiguous(memory_format=torch.channels_last)
    back = code(ordered, torch.float32)()
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(back, code(weight, torch.float32, channels_last=True)())
    assert relative_error(back, weight) < relative_error(code(weight, torch.float32)(), weight) * 1.1


@pytest.mark.parametrize("code", [Int8Weight, Nf4Weight])
def test_large_weights_are_quantized_in_parts(code: type[Int8Weight | Nf4Weight]) -> None:
    """Rows are quantized in slices; each row has the same result as alone."""
    weight = torch.randn(130, 4096, generator=torch.Generator().manual_seed(1))
    whole = code(weight, torch.float32)()
    for row in (0, 127, 128, 129):
        assert torch.equal(whole[row : row + 1], code(weight[row : row + 1], torch.float32)())


@pytest.mark.parametrize("code", [Int8Weight, Nf4Weight])
def test_a_channel_of_zeros_stays_zero(code: type[Int8Weight | Nf4Weight]) -> None:
    """A channel of zeros dequantizes to zeros, not NaN."""
    weight = torch.zeros(2, 64)
    weight[1] = 1
    back = code(weight, torch.float16)()
    assert (back[0] == 0).all()
    assert (back[1] == 1).all()


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (nn.Linear(24, 10), 0),
        (nn.Linear(24, 10, bias=False), 0),
        (nn.Conv2d(24, 8, 3, stride=2, padding=1), 6),
        (nn.Conv2d(24, 8, 3, groups=4, dilation=2, padding=2, padding_mode="reflect", bias=False), 6),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_a_layer_computes_with_its_dequantized_weight(layer: nn.Module, side: int, precision: Bits) -> None:
    """The output is bit-identical to torch's layer with the dequantized weight: activations are not rounded."""
    quantized = quantize_model(copy.deepcopy(layer), precision=precision)
    reference = copy.deepcopy(layer)
    reference.weight = nn.Parameter(quantized.weight.clone())
    inputs = torch.randn(3, 24, side, side) if side else torch.randn(3, 5, 24)
    assert isinstance(quantized, QuantizedConv2d if side else QuantizedLinear)
    assert torch.equal(quantized(inputs), reference(inputs))
    assert not any(parameter.requires_grad for parameter in quantized.parameters())


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_code_that_reads_the_weight_works(precision: Bits) -> None:
    """Reading `weight.dtype` and `.shape`, `.to(dtype)`, copying, saving and loading work."""
    layer = quantize_model(nn.Linear(64, 8), precision=precision)
    half = copy.deepcopy(layer).to(torch.float16)
    assert half.weight.dtype == half.bias.dtype == torch.float16
    assert half.weight.shape == (8, 64)
    assert relative_error(half.weight, layer.weight) < 1e-3
    other = quantize_model(nn.Linear(64, 8), precision=precision)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)


def test_a_subclass_with_another_forward_is_not_quantized() -> None:
    """Only layers with torch's own forward method are quantized, including plain subclasses."""

    class Plain(nn.Linear):
        pass

    class Doubling(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    assert is_quantizable(Plain(2, 2))
    assert not is_quantizable(Doubling(2, 2))
    assert not is_quantizable(nn.Embedding(2, 2))
    assert type(quantize_model(nn.Sequential(Doubling(2, 2)), precision="int8")[0]) is Doubling


COMPILE = """
import torch
from torch import nn
from zoodip_core.diffusion.quantize import quantize_model

for precision in ("int8", "nf4"):
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2))
    model = quantize_model(model, precision=precision)
    inputs = torch.randn(2, 4, 4, 4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), model(inputs))
"""


@pytest.mark.slow
def test_layers_compile_into_one_graph() -> None:
    """torch.compile captures dequantization and product as one graph, so that it can fuse them on CUDA.

    The test runs in a separate process, because the test suite's shape checks break the graph.
    """
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class _RoundedActivations(nn.Linear):
    """Linear layer that rounds its input to 8 bits with one scale for each row, as Linear8bitLt does."""

    def forward(self, inputs: Tensor) -> Tensor:
        scale = inputs.abs().amax(-1, keepdim=True) / 127
        return nn.functional.linear((inputs / scale).round() * scale, self.weight, self.bias)


def _dequantized_copy(model: nn.Module, linear: type[nn.Linear]) -> nn.Module:
    """Return a copy with ordinary layers that hold the dequantized weights."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, QUANTIZED):
            weight = layer.weight
            del layer.quantized
            layer.__class__ = nn.Conv2d if isinstance(layer, nn.Conv2d) else linear
            layer.weight = nn.Parameter(weight, requires_grad=False)
    return model


def _slopes(model: nn.Module, dtype: torch.dtype) -> Tensor:
    """Return finite differences of Eq. (1)'s loss at μ = 1e-3, at nine points on a line of contexts."""
    generator = torch.Generator().manual_seed(3)
    z_t, noise = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    context, direction = torch.randn(2, 77, 32, generator=generator, dtype=torch.float64)
    mu = 1e-3
    points = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64)
    points = torch.cat((points, points + mu)).view(-1, 1, 1)
    states = (context + points * direction).to(dtype)
    with torch.no_grad():
        outputs = model(z_t.to(dtype).expand(len(states), -1, -1, -1), 700, states).sample
    losses = (outputs.double() - noise).square().mean((1, 2, 3))
    return (losses[9:] - losses[:9]) / mu


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_the_loss_stays_smooth_in_theta(tmp_path: Path, precision: Bits) -> None:
    """At μ = 1e-3 finite differences match those of the dequantized model; with rounded activations they do not."""
    folder = build_family(tmp_path, "sd1")
    quantized = load_quantized(
        meta_model("UNet2DConditionModel", FAMILIES["sd1"].unet),
        [folder / "unet" / "diffusion_pytorch_model.safetensors"],
        precision=precision,
        device="cpu",
        dtype=torch.float32,
    )
    exact = _slopes(_dequantized_copy(quantized, nn.Linear).double(), torch.float64)
    assert relative_error(_slopes(quantized, torch.float32), exact) < 0.1
    assert (
        relative_error(_slopes(_dequantized_copy(quantized, _RoundedActivations), torch.float32), exact) > 1
    )


@pytest.mark.slow
def test_sd15_in_int8_has_the_shares_of_the_paper() -> None:
    """96.4 % of U-Net, VAE and text encoder are INT8; the U-Net is 68.5 % convolutions and takes 0.86 GB."""
    family = sd15()
    unet = meta_model("UNet2DConditionModel", family.unet)
    vae = meta_model("AutoencoderKL", family.vae)
    text = meta_model("CLIPTextModel", family.text[0])
    models = [quantize_model(model.to(torch.float16), precision="int8") for model in (unet, vae, text)]
    whole, alone = quantization_report(models), quantization_report([unet])
    assert whole.quantized_share == pytest.approx(0.964, abs=5e-4)
    assert alone.conv_parameters / alone.parameters == pytest.approx(0.685, abs=5e-4)
    assert alone.size_bytes == pytest.approx(0.86e9, rel=5e-3)
    assert alone.parameters == 859_520_964


def test_report_of_an_unquantized_model() -> None:
    """Without quantization, the quantized share is 0 and the size is that of the parameters."""
    report = quantization_report([nn.Sequential(nn.Linear(4, 4), nn.Conv2d(2, 2, 1))])
    assert report.quantized_share == 0
    assert (report.linear_parameters, report.conv_parameters) == (16, 4)
    assert report.size_bytes == (16 + 4 + 4 + 2) * 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_cuda_gives_the_same_weights(precision: Bits) -> None:
    """Weights quantized on CUDA and on the CPU agree within one rounding step."""
    layer = nn.Conv2d(64, 32, 3).half()
    on_cuda = quantize_model(copy.deepcopy(layer).to("cuda"), precision=precision)
    on_cpu = quantize_model(layer, precision=precision)
    assert on_cuda.weight.device.type == "cuda"
    assert relative_error(on_cuda.weight.cpu(), on_cpu.weight) < 2e-3
    inputs = torch.randn(2, 64, 8, 8, dtype=torch.float16, device="cuda")
    assert torch.isfinite(on_cuda(inputs)).all()
