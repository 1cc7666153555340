"""A custom VAE: refused if its latents differ from the base model's, and otherwise used in place of its VAE."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tooling.registration import add, refusal
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import load_bundle
from zoodip_core.errors import InvalidModelError, InvalidSettingsError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def vae(tmp_path: Path, family_folder: dict[str, Path]) -> Path:
    """Return a copy of the VAE of the tiny SD1 with other weights, in a folder of another name."""
    folder = tmp_path / "mse"
    shutil.copytree(family_folder["sd1"] / "vae", folder)
    save_file({name: value * 1.2 for name, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


@pytest.mark.slow
def test_a_custom_vae_replaces_that_of_the_base_model(
    tmp_path: Path, family_folder: dict[str, Path], vae: Path
) -> None:
    """Images equal those of diffusers' pipeline with this VAE; the fingerprint is that of the base model."""
    catalog = tmp_path / "models.toml"
    add(catalog, "plain", family_folder["sd1"], precision="fp32")
    add(catalog, "custom", family_folder["sd1"], precision="fp32", vae=vae)
    assert 'vae = "mse"' in catalog.read_text()
    plain, custom = (
        load_bundle(Catalog.load(catalog).get(name), device="cpu") for name in ("plain", "custom")
    )
    assert (plain.fingerprint, plain.weights_fingerprint) == (custom.fingerprint, custom.weights_fingerprint)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        family_folder["sd1"], vae=diffusers.AutoencoderKL.from_pretrained(vae), torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    settings = GenerationSettings(prompt="a dog", steps=2, guidance_scale=5)
    generator = torch.Generator().manual_seed(0)
    theirs = pipeline("a dog", num_inference_steps=2, guidance_scale=5.0, generator=generator).images[0]
    differences = [
        np.abs(np.asarray(generate(bundle, settings)[0].image, int) - np.asarray(theirs, int)).max()
        for bundle in (custom, plain)
    ]
    assert differences[0] <= 1 < differences[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scaling_factor": 0.13025},
            "vae: got scaling_factor 0.13025 in .*; expected 0.18215, as in the base",
        ),
        ({"latent_channels": 16}, "vae: got latent_channels 16 in .*; expected 4"),
        ({"block_out_channels": [8]}, "vae: got number of blocks 1 in .*; expected"),
        ({"_class_name": "AutoencoderTiny"}, "vae: got AutoencoderTiny in .*; expected the folder of an"),
    ],
)
def test_other_latents_are_refused(
    tmp_path: Path, family_folder: dict[str, Path], vae: Path, changes: dict[str, object], message: str
) -> None:
    """The error names the property; nothing is added, and an entry by hand does not load."""
    catalog = tmp_path / "models.toml"
    config = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps(config | changes))
    assert re.match(message, refusal(catalog, "x", family_folder["sd1"], vae=vae))
    assert not catalog.exists()
    catalog.write_text(f'[[base_models]]\nname = "x"\npath = "{family_folder["sd1"]}"\nvae = "mse"\n')
    with pytest.raises(InvalidModelError, match=message):
        load_bundle(Catalog.load(catalog).get("x"), device="cpu")


def test_a_folder_without_a_vae_is_refused(tmp_path: Path, family_folder: dict[str, Path], vae: Path) -> None:
    """Missing weights and a missing folder are errors about the VAE, also in a catalog that is edited by hand."""
    catalog = tmp_path / "models.toml"
    (vae / WEIGHTS).unlink()
    assert refusal(catalog, "x", family_folder["sd1"], vae=vae).startswith("vae: got no weights in")
    assert refusal(catalog, "x", family_folder["sd1"], vae=tmp_path / "no").startswith("vae: got ")
    catalog.write_text(f'[[base_models]]\nname = "x"\npath = "{family_folder["sd1"]}"\nvae = "no"\n')
    with pytest.raises(InvalidSettingsError, match=r"base_models\[0\]\.vae: got .*no, which is no folder"):
        Catalog.load(catalog)
