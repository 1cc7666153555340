"""Compiled programs give the eager results, only for batches that they can run; a failure leaves the eager path."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoodip_core.diffusion.denoising import Denoiser, Rows

COMPILE = """
import threading
from pathlib import Path
from types import SimpleNamespace
import sys
import torch
from torch import nn
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion.denoising import Denoiser, Rows, evaluate
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.diffusion.quantize import quantize_model

class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_size=8)
        self.conv, self.text = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 4)

    def forward(self, noisy, timesteps, encoder_hidden_states, added_cond_kwargs, return_dict):
        text = self.text(encoder_hidden_states).mean(1)
        return (self.conv(noisy) + text[:, :, None, None] * timesteps.float()[:, None, None, None].cos(),)

def rows(count):
    return Rows(torch.randn(count, 4, 8, 8), torch.arange(count), torch.randn(count, 77, 8))

denoiser = Denoiser(quantize_model(Unet(), precision="int8"), dtype=torch.float32, compiled_tokens=77)
compiled, five = denoiser.compiled, rows(5)
eager = denoiser.predict(five)
assert compiled.compiled_rows == 0
compiled.wait()
assert compiled.buckets == [6]
torch.testing.assert_close(denoiser.predict(five), eager)
assert compiled.compiled_rows == 5
torch.testing.assert_close(denoiser.predict(five)[:4], eager[:4])  # the program is reused
other = rows(6)
exact = evaluate(denoiser.unet, [other.noisy, other.timesteps, other.states])
torch.testing.assert_close(denoiser.predict(other), exact)
assert compiled.compiled_rows == 16
denoiser.predict(Rows(torch.randn(6, 4, 16, 16), torch.arange(6), torch.randn(6, 77, 8)))  # another size
assert compiled.compiled_rows == 16

bundle = load_bundle(BaseModelEntry(name="x", path=Path(sys.argv[1])), device="cpu", compiled=True)
unet = bundle.denoiser.unet
pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
inputs = [torch.randn(2, 4, 8, 8), torch.ones(2), torch.randn(2, 77, unet.config.cross_attention_dim)]
inputs += [torch.randn(2, pooled), torch.ones(2, 6)]
with torch.no_grad():
    traced = torch.compile(lambda *given: evaluate(unet, given), backend="eager", fullgraph=True)
    assert torch.equal(traced(*inputs), evaluate(unet, inputs))

    prompts = bundle.prompts
    prompt = prompts.tokenize("a photo of a dog", {})
    embedded = [torch.stack([one] * 5) for one in prompts.embed(prompt, {})]
    eager = prompts.encode(embedded, [prompt] * 5)
    networks = [encoder.compiled for encoder in prompts.encoders]
    for network in networks:  # one is compiled at a time
        prompts.encode(embedded, [prompt] * 5)
        network.wait()
    assert [network.buckets for network in networks] == [[6], [6]]
    before = [network.compiled_rows for network in networks]
    states = prompts.encode(embedded, [prompt] * 5)
    assert [network.compiled_rows for network in networks] == [rows + 5 for rows in before]
    torch.testing.assert_close(states.states, eager.states)
    torch.testing.assert_close(states.pooled, eager.pooled)
"""


@pytest.mark.slow
def test_programs_give_the_eager_results(family_folder: dict[str, Path], tmp_path: Path) -> None:
    """Inductor compiles a padded bucket in the background. SDXL's networks with INT8 weights are one graph each.

    The test runs in a separate process, because the test suite's shape checks break the graph.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(family_folder["sdxl"])],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class _Untraceable(nn.Module):
    """U-Net that torch cannot compile, because its graph depends on a value."""

    config = SimpleNamespace(sample_size=2)

    def forward(self, noisy: Tensor, _t: Tensor, **_rest: Any) -> tuple[Tensor]:
        return (noisy * 2 if float(noisy.sum()) > 1e9 else noisy * 3,)


def _rows(count: int, side: int = 2) -> Rows:
    return Rows(torch.randn(count, 4, side, side), torch.zeros(count), torch.zeros(count, 77, 5))


def test_a_failed_compilation_leaves_the_eager_path(caplog: pytest.LogCaptureFixture) -> None:
    """Each bucket is tried once. Only the first failure logs a warning."""
    denoiser = Denoiser(_Untraceable(), dtype=torch.float32, compiled_tokens=77)
    compiled = denoiser.compiled
    assert compiled is not None
    with caplog.at_level(logging.WARNING):
        for count in (2, 2, 3, 3):
            rows = _rows(count)
            assert torch.equal(denoiser.predict(rows), rows.noisy * 3)
            compiled.wait()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the U-Net runs without compilation"
    ]
    assert (compiled.buckets, compiled.compiled_rows) == ([], 0)


@pytest.mark.parametrize(("count", "side"), [(65, 2), (2, 4)])
def test_other_batches_start_no_compiler(count: int, side: int, caplog: pytest.LogCaptureFixture) -> None:
    """Batches above the largest bucket and images of another size run eagerly and compile nothing."""
    denoiser = Denoiser(_Untraceable(), dtype=torch.float32, compiled_tokens=77)
    denoiser.predict(_rows(count, side))
    assert denoiser.compiled is not None
    denoiser.compiled.wait()
    assert not caplog.records


def test_compilation_is_off_by_default() -> None:
    """A denoiser runs eagerly, so a job alone has the same bits as before, unless it is asked to compile."""
    assert Denoiser(_Untraceable(), dtype=torch.float32).compiled is None
