"""Learns pseudo-subjects with forward passes only, on a base model that may be quantized."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import Engine
from zoodip_core.personalization.personalize import Personalization


def search(bundle: Bundle, started: Sequence[Personalization]) -> Float[Tensor, "subjects flat"]:
    """Search pseudo-subjects together, and return how far the tokens moved.

    Args:
        bundle: the base model, quantized or not.
        started: the pseudo-subjects, each at its bare noun, with the settings of its search.

    Raises:
        LossNotFiniteError: a loss is NaN or infinite.
    """
    starts = torch.stack([one.search.theta for one in started])
    engine = Engine(bundle)
    while unfinished := [one for one in started if not one.done]:
        for error in engine.step(unfinished):
            if error is not None:
                raise error
    return torch.stack([one.search.theta for one in started]) - starts
