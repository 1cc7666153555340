"""One text encoder: its tokenizer, its layers on input embeddings, and its compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.diffusion.compiled import CompiledNetwork
from zoodip_core.diffusion.device import to_device

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


@dataclass(frozen=True)
class TextEncoder:
    """One CLIP text encoder with its tokenizer.

    SD1 and SD2 condition on the last layer. SDXL conditions on the penultimate layer of two encoders, and on the
    projected end-of-text state of the second one.

    Attributes:
        tokenizer: tokenizer of the encoder.
        model: the frozen network.
        penultimate: whether to use the penultimate layer instead of the last one.
        projected: whether the network has a projection of the end-of-text state.
        compiled: runs the network compiled, where it can; None for the eager path only.
    """

    tokenizer: CLIPTokenizer
    model: Any
    penultimate: bool
    projected: bool
    compiled: CompiledNetwork | None = None

    @property
    def body(self) -> Any:
        """The transformer: embeddings, layers and final norm."""
        return self.model.text_model if self.projected else self.model

    @property
    def table(self) -> Float[Tensor, "words d"]:
        """Embedding table of the vocabulary."""
        weight: Tensor = self.body.embeddings.token_embedding.weight
        return weight

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return int(self.table.shape[1])

    @property
    def tokens(self) -> int:
        """Context length."""
        return int(self.body.embeddings.position_ids.shape[-1])

    def run(
        self, embedded: Float[Tensor, "rows tokens d"], ends: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, "rows tokens d"], Float[Tensor, "rows p"] | None]:
        """Run the encoder on input embeddings; return its states and, if it has a projection, the pooled states."""
        inputs = [embedded, to_device(ends, embedded.device)] if self.projected else [embedded]
        found = None if self.compiled is None else self.compiled.run(inputs)
        states, *pooled = self.evaluate(*inputs) if found is None else found
        return states, pooled[0] if pooled else None

    def evaluate(
        self, embedded: Float[Tensor, "rows tokens d"], ends: Int[Tensor, " rows"] | None = None
    ) -> tuple[Tensor, ...]:
        """Run the layers in their dtype; transformers' own forward accepts only ids. A projection needs the ends."""
        body = self.body
        hidden = body.embeddings(inputs_embeds=embedded.to(body.final_layer_norm.weight.dtype))
        before_last = hidden
        for layer in body.encoder.layers:
            before_last = hidden
            hidden = layer(hidden, None, is_causal=True)
        last = body.final_layer_norm(hidden)
        states = before_last if self.penultimate else last
        if ends is None:
            return (states,)
        rows = torch.arange(len(last), device=last.device)
        return states, self.model.text_projection(last[rows, ends])

    def with_programs(self) -> TextEncoder:
        """Return the encoder with compiled programs for prompts of its context length."""

        def accepts(inputs: Sequence[Tensor]) -> bool:
            return inputs[0].shape[1] == self.tokens and not inputs[0].requires_grad

        network = CompiledNetwork("the text encoder", lambda *inputs: self.evaluate(*inputs), accepts)
        return replace(self, compiled=network)
