"""The shapes in annotations are checked while the tests run; the models are too small for threads to pay."""

from __future__ import annotations

import os

import torch
from jaxtyping import install_import_hook

WITH_TENSORS = ("zeroth_order", "diffusion", "engine", "references", "personalize")

install_import_hook([f"zoodip_core.{name}" for name in WITH_TENSORS], "beartype.beartype")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
