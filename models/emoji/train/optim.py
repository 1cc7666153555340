"""Muon for matrices and AdamW for the rest, with a moving average of the weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from models.emoji.train.device import native_bf16

NOT_MATRICES = (
    "token_embedding",
    "position_embedding",
    "conv_in",
    "conv_out",
    "time_embedding",
    "patch_embedding",
)


def orthogonalised(update: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """The nearest half-orthogonal matrix of a matrix, roughly, by Newton and Schulz's iteration.

    Source: kellerjordan.github.io/posts/muon (coefficients of the quintic).
    """
    wide = update / (update.norm() + 1e-7)
    tall = wide.shape[0] > wide.shape[1]
    wide = wide.T if tall else wide
    for _ in range(steps):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    result: torch.Tensor = wide.T if tall else wide
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, scaled so that its entries have AdamW's usual size."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        del closure
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                matrix = param.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5 * 0.2 * max(matrix.shape) ** 0.5
                matrix = matrix.bfloat16() if native_bf16(matrix.device) else matrix
                update = orthogonalised(matrix).to(param.dtype) * scale
                param.mul_(1 - group["lr"] * group["decay"])
                param.add_(update.view_as(param), alpha=-group["lr"])


class Optimiser:
    """Both optimisers over named parameters, and the moving average of what they move."""

    def __init__(self, named: dict[str, nn.Parameter], rate: float, average: float) -> None:
        matrices = {
            name: param
            for name, param in named.items()
            if param.ndim >= 2 and not any(x in name for x in NOT_MATRICES)
        }
        rest = [param for name, param in named.items() if name not in matrices]
        self.named, self.rate, self.average_decay, self.updates = named, rate, average, 0
        self.parts: list[torch.optim.Optimizer] = [
            Muon(matrices.values(), rate),
            torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.average = {name: param.detach().clone() for name, param in named.items()}

    def step(self, rate_factor: float, max_norm: float = 1.0) -> None:
        """One update of the weights from their gradients, then of the average; gradients are cleared."""
        params = list(self.named.values())
        nn.utils.clip_grad_norm_(params, max_norm)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.rate * rate_factor
            part.step()
            part.zero_grad(set_to_none=True)
        self.updates += 1
        keep = min(self.average_decay, self.updates / (self.updates + 20))
        torch._foreach_lerp_(list(self.average.values()), [param.data for param in params], 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The average in the weights' place; afterwards every weight has its own bits again."""
        own = {name: param.detach().clone() for name, param in self.named.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(own)

    def _set(self, weights: dict[str, torch.Tensor]) -> None:
        for name, param in self.named.items():
            param.data.copy_(weights[name])

    def finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(param.detach().isfinite().all()) for param in self.named.values())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, the weights included."""
        weights = {name: param.data for name, param in self.named.items()}
        parts = [part.state_dict() for part in self.parts]
        return {"weights": weights, "average": self.average, "parts": parts, "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, param in self.named.items():
            param.data.copy_(state["weights"][name])
            self.average[name].copy_(state["average"][name])
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.updates = state["updates"]
