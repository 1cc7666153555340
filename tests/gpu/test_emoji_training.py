"""Training of the embedded model on CUDA: narrow networks, compiled, in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.emoji.export import main as export
from models.emoji.train.__main__ import main as train
from models.emoji.train.dataset_file import write_dataset
from tests.unit.models.emoji.conftest import PICTURES, TINY, new_work

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_every_part_trains_resumes_and_exports(tmp_path: Path) -> None:
    """Each part trains from scratch, resumes from its checkpoint with samples, and is exported."""
    write_dataset(tmp_path / "data", PICTURES, processes=1)
    work, settings = new_work(tmp_path / "work", tmp_path / "data"), tmp_path / "tiny.toml"
    settings.write_text(TINY)
    shared = ["--work", str(work), "--settings", str(settings)]
    for part in ("diffusion", "autoencoder", "clip", "judge"):
        train([part, *shared, "--from-scratch", "--pictures", "8"])
        train([part, *shared, "--pictures", "24"])
    assert {"diffusion-000006.png", "autoencoder-000006.png"} <= {path.name for path in work.iterdir()}
    export([*shared, "--out", str(tmp_path / "model")])
    assert (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
