"""The commands of docs/how-to/add-a-base-model.md run as printed, with a hub on the loopback interface."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.integration.support.workers import ROOT
from tests.tooling.hub import running_hub
from tests.tooling.single_files import single_file_tensors, write_published_like, write_single_file
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.model_source import CONVERSION

PAGE = ROOT / "docs/how-to/add-a-base-model.md"
PHOTOS = ROOT / "zoodip_core/assets/demo"


def _script() -> str:
    return "".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def _write_sources(folder: Path) -> dict[str, Path]:
    """Write the files that the page names, with narrow models; return the repositories of the hub."""
    sd1 = write_published_like(folder / "hub/sd1", "sd1")
    sdxl = write_published_like(folder / "hub/sdxl", "sdxl", dtype=torch.float16)
    for file in list(sdxl.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    sd2 = write_published_like(folder / "my-models/stable-diffusion-2-1", "sd2_v")
    write_single_file(sd1, folder / "downloads/dreamshaper_8.safetensors", dtype=torch.float16)
    write_single_file(sd2, folder / "downloads/v2-1_768-ema-pruned.safetensors")
    shutil.copytree(sd1 / "vae", folder / "downloads/sd-vae-ft-mse")
    torch.save({"state_dict": single_file_tensors(sd1)}, folder / "downloads/old.ckpt")
    shutil.copytree(PHOTOS, folder / "photos", ignore=shutil.ignore_patterns("*.json"))
    return {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": sd1,
        "stabilityai/stable-diffusion-xl-base-1.0": sdxl,
    }


@pytest.mark.long
@pytest.mark.slow
def test_the_shell_blocks_of_the_page_run_in_order(tmp_path: Path) -> None:
    """All blocks in one shell that stops at the first failure; one of the commands removes a model again."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOODIP_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running_hub() as hub:
        hub.repositories = _write_sources(tmp_path)
        environment = {
            "PATH": path,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": "",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _script()],
            cwd=tmp_path,
            env=kept | environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    catalog = Catalog.load(tmp_path / "models.toml")
    assert [entry.name for entry in catalog.entries] == [
        *("emoji", "sd15", "sdxl", "sd21", "mine", "dreamshaper-mse")
    ]
    assert catalog.default.name == "sd15"
    assert (tmp_path / "downloads/dreamshaper_8.safetensors").is_file()
    assert (tmp_path / "downloads/old.safetensors").is_file()
    with Image.open(tmp_path / "images/0.png") as picture:
        picture.load()
    assert "all weights can be read; the fingerprint is that of the catalog" in done.stderr


def test_the_page_prints_the_conversion_of_the_error_message() -> None:
    """The command for pickles is the same in both places."""
    assert f"{CONVERSION} downloads/old.ckpt downloads/old.safetensors" in PAGE.read_text()


def test_the_catalog_of_the_page_is_valid(tmp_path: Path) -> None:
    """The TOML block loads; only the fingerprint is shortened."""
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "my-models/stable-diffusion-2-1").mkdir(parents=True)
    (tmp_path / "models.toml").write_text(block.replace("…", "ab" * 32))
    assert [entry.name for entry in Catalog.load(tmp_path / "models.toml").entries] == [
        "emoji",
        "sd15",
        "mine",
    ]
