"""The token at which a search starts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import flatten


def initial_token(bundle: Bundle, initializer: str, vectors: int) -> Float[Tensor, " flat"]:
    """Return the embeddings of the initializer in each text encoder: one for each vector, or their mean for all."""
    parts = []
    for encoder in bundle.prompts.encoders:
        ids = encoder.tokenizer(initializer, add_special_tokens=False).input_ids
        rows = encoder.table[ids].float().cpu()
        parts.append(rows if len(ids) == vectors else rows.mean(dim=0).expand(vectors, -1))
    return flatten(parts)
