"""The VAE in strips gives the result of the whole image, without seams, with less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.engine.live_bytes import LiveBytes
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.diffusion import vae_strips
from zoodip_core.diffusion.loading import Bundle, load_bundle

pytestmark = pytest.mark.slow

SIZES = [(48, 80), (8, 8), (136, 40)]


@pytest.fixture(params=[0, 2**25], ids=["no map stored", "all maps stored"])
def _small_strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every image in strips; the widest has two rows in a strip, the fewest."""
    monkeypatch.setattr(vae_strips, "WHOLE_PIXELS", 0)
    monkeypatch.setattr(vae_strips, "STRIP_PIXELS", 160)
    monkeypatch.setattr(vae_strips, "STORED_VALUES", request.param)


def _image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def _difference(vae: Any, size: tuple[int, int]) -> float:
    """Return the largest difference of a decoded pixel in levels of 0 to 255, and of a moment in the same scale."""
    image = _image(size)
    moments = vae.encode(image, return_dict=False)[0].parameters
    latent = moments[:, :4] / moments[:, :4].std()
    whole = vae.decode(latent, return_dict=False)[0]
    in_strips = vae_strips.decode(vae, latent.clone())
    assert in_strips.shape == whole.shape
    encoded = vae_strips.encode(vae, image.clone())
    assert encoded.shape == moments.shape
    pixels = (in_strips - whole).abs().max() / whole.abs().max().clamp_min(1) * 127.5
    return max(float(pixels), float((encoded - moments).abs().max() / moments.abs().max()) * 127.5)


@pytest.mark.usefixtures("_small_strips")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_strips_equal_the_whole(bundles: dict[str, Bundle], size: tuple[int, int]) -> None:
    """Decoding and encoding agree within 1/255 of the range, here within rounding, for all sizes of strips."""
    for family in ("sd1", "sdxl"):
        assert _difference(bundles[family].vae, size) < 0.05


@pytest.mark.usefixtures("_small_strips")
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantized_layers_run_in_strips(family_folder: dict[str, Path], precision: str) -> None:
    """A quantized weight is dequantized for each layer."""
    entry = {"name": "x", "path": family_folder["sd1"], "vae_precision": precision}
    bundle = load_bundle(BaseModelEntry.model_validate(entry), device="cpu")
    assert _difference(bundle.vae, (40, 48)) < 0.05


@pytest.mark.usefixtures("_small_strips")
def test_the_input_is_not_changed(bundles: dict[str, Bundle]) -> None:
    """Residual sums are written in place, but never into the caller's tensor."""
    latent, image = torch.randn(1, 4, 6, 6), _image((48, 48))
    copies = latent.clone(), image.clone()
    with torch.no_grad():
        vae_strips.decode(bundles["sd1"].vae, latent)
        vae_strips.encode(bundles["sd1"].vae, image)
    assert torch.equal(latent, copies[0])
    assert torch.equal(image, copies[1])


def test_small_images_run_whole(bundles: dict[str, Bundle]) -> None:
    """Their bits are those of diffusers."""
    vae = bundles["sd1"].vae
    latent = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(vae_strips.decode(vae, latent), vae.decode(latent, return_dict=False)[0])


def test_strips_take_less_memory(bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding 320×320 px takes less than half of the memory, and even less if large maps are not stored."""
    vae, latent = bundles["sd1"].vae, torch.randn(1, 4, 40, 40)
    peaks = []
    for whole_pixels, stored_values in ((2**30, 0), (0, 2**25), (0, 2**19)):
        monkeypatch.setattr(vae_strips, "WHOLE_PIXELS", whole_pixels)
        monkeypatch.setattr(vae_strips, "STORED_VALUES", stored_values)
        with torch.no_grad(), LiveBytes() as live:
            vae_strips.decode(vae, latent)
        peaks.append(live.peak)
    assert peaks[0] > 2 * peaks[1] > 2 * peaks[2]
