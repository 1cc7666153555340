"""Muon for matrices and AdamW for all other parameters, with a moving average of the weights."""

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


def orthogonalize(update: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Approximate the nearest semi-orthogonal matrix by Newton-Schulz iteration.

    Args:
        update: matrices, [..., rows, columns].
        steps: number of iterations.

    Source: kellerjordan.github.io/posts/muon (coefficients of the quintic).
    """
    wide = update / (update.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = wide.shape[-2] > wide.shape[-1]
    wide = wide.mT if tall else wide
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    result: torch.Tensor = wide.mT if tall else wide
    return result


class Muon(torch.optim.Optimizer):
    """Muon: orthogonalized momentum, scaled to the usual size of AdamW's updates."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. Matrices of one shape are batched, which is faster on a GPU."""
        del closure
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, torch.Tensor]]] = {}
            for param in group["params"]:
                if param.grad is not None:
                    by_shape.setdefault(param.flatten(1).shape, []).append((param, param.grad))
            for (rows, columns), pairs in by_shape.items():
                scale = max(1.0, rows / columns) ** 0.5 * 0.2 * max(rows, columns) ** 0.5
                self._update(pairs, scale * group["lr"], group["momentum"], 1 - group["lr"] * group["decay"])

    def _update(
        self, pairs: list[tuple[nn.Parameter, torch.Tensor]], size: float, momentum: float, keep: float
    ) -> None:
        """Update parameters that are matrices of one shape.

        Args:
            pairs: parameters with their gradients.
            size: of the step: learning rate times the scale to AdamW's usual size.
            momentum: decay of the moving average of the gradients.
            keep: factor on the parameters from weight decay.
        """
        directions = []
        for param, gradient in pairs:
            state = self.state[param]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(param)
            state["momentum"].lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(state["momentum"], momentum).flatten(1))
        matrices = torch.stack(directions)
        matrices = matrices.bfloat16() if native_bf16(matrices.device) else matrices
        for (param, _), update in zip(pairs, orthogonalize(matrices), strict=True):
            param.mul_(keep).sub_(update.to(param.dtype).view_as(param), alpha=size)


class Optimizer:
    """Muon and AdamW over named parameters, and the moving average of these parameters."""

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

    def step(self, learning_rate_factor: float, max_norm: float = 1.0) -> None:
        """Update the weights and their average, then clear the gradients."""
        params = list(self.named.values())
        nn.utils.clip_grad_norm_(params, max_norm)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.rate * learning_rate_factor
            part.step()
            part.zero_grad(set_to_none=True)
        self.updates += 1
        keep = min(self.average_decay, self.updates / (self.updates + 20))
        torch._foreach_lerp_(list(self.average.values()), [param.data for param in params], 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap the averaged weights into the networks; restore the exact weights afterwards."""
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
        """Return whether every weight is finite."""
        return all(bool(param.detach().isfinite().all()) for param in self.named.values())

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, including the weights."""
        weights = {name: param.data for name, param in self.named.items()}
        parts = [part.state_dict() for part in self.parts]
        return {"weights": weights, "average": self.average, "parts": parts, "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        for name, param in self.named.items():
            param.data.copy_(state["weights"][name])
            self.average[name].copy_(state["average"][name])
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.updates = state["updates"]
