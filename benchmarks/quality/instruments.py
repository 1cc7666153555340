"""What measures EmojiBooth's pictures: the world, the judge and the embedded CLIP pair."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.metrics import Embedder
from models.emoji.judge import Judge, read_judge
from models.emoji.judge.network import WEIGHTS
from models.emoji.world import World, shipped_world
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.scoring import Scorer


@dataclass(frozen=True)
class Instruments:
    """What measures."""

    world: World
    judge: Judge
    embedder: Embedder
    id: str  # of both's weights: figures of another judge are other figures


def read_instruments(scorer: Path) -> Instruments:
    """The judge and the CLIP pair, with one id for their weights.

    Raises:
        CheckpointError: the judge's weights are missing or damaged.
        InvalidModelError: the pair is.
    """
    judge, pair = read_judge(), Scorer(scorer)
    digest = hashlib.sha256(WEIGHTS.read_bytes())
    for path in weight_files(scorer):
        digest.update(path.read_bytes())
    return Instruments(shipped_world(), judge, pair, digest.hexdigest())
