"""Compare the search with a plain transliteration of Algorithm 1."""

import math

import pytest
import torch
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.zeroth_order import Losses, TokenSearch

D, IMAGES = 12, 3
TARGETS = torch.randn(IMAGES, D, generator=torch.Generator().manual_seed(77))


def loss(token: Tensor, image: int, flipped: bool, timestep: int, noise_seed: int) -> Tensor:
    """Return a noisy quadratic loss that depends on everything that a step samples."""
    noise = torch.randn(D, generator=torch.Generator().manual_seed(noise_seed))
    target = TARGETS[image] * (-0.5 if flipped else 1.0) + 0.1 * noise
    return (timestep / 1000) * ((token - target) ** 2).mean()


def update_p(B: Tensor, nu: float) -> Tensor:  # noqa: N803
    """Compute Algorithm 2, with Eq. (7) instead of its line 5."""
    B = B.double() - B.double().mean(0)  # noqa: N806
    B = B / (B**2).mean(0).sqrt()  # noqa: N806
    _, S, V = torch.linalg.svd(B, full_matrices=False)  # noqa: N806
    explained, i_star = 0.0, 0
    while explained <= 1 - nu:
        explained, i_star = explained + float(S[i_star] ** 2 / (S**2).sum()), i_star + 1
    return V[i_star:].float().contiguous()


def algorithm_1(theta: Tensor, s: SearchSettings) -> list[tuple[Tensor, int]]:
    """Run Algorithm 1 as printed; return θ and the number of rows of P after each step."""
    g, d = torch.Generator().manual_seed(s.seed), len(theta)
    P, B = torch.zeros(0, d), torch.zeros(s.tau, d)  # noqa: N806
    m, v, after = torch.zeros(d), torch.zeros(d), []
    for l in range(1, s.steps + 1):  # noqa: E741
        image, flip = int(torch.randint(IMAGES, (1,), generator=g)), bool(torch.randint(2, (1,), generator=g))
        t = int(torch.randint(s.t_low, s.t_high, (1,), generator=g))
        sampled = (image, flip, t, int(torch.randint(2**63 - 1, (1,), generator=g)))
        e = torch.randn(s.n, d, generator=g)
        change = [loss(theta + s.mu * e_i, *sampled).double() - loss(theta, *sampled).double() for e_i in e]
        divisor = s.n * math.sqrt((d - len(P) + s.n - 1) / s.n) if s.estimate_scale == "dimension" else s.n
        g_hat = (torch.stack(change) / s.mu @ e.double() / divisor).float()
        g_hat = g_hat - (P @ g_hat) @ P
        m, v = 0.9 * m + (1 - 0.9) * g_hat, 0.999 * v + (1 - 0.999) * g_hat**2
        theta = theta - s.learning_rate * (m / (1 - 0.9**l)) / ((v / (1 - 0.999**l)).sqrt() + 1e-3)
        B[l % s.tau] = theta
        if l % s.tau == 0:
            P, B = update_p(B, s.nu), torch.zeros(s.tau, d)  # noqa: N806
        after.append((theta, len(P)))
    return after


@pytest.mark.parametrize("scale", ["mean", "dimension"])
@pytest.mark.parametrize(("tau", "nu"), [(8, 1e-3), (5, 0.2), (20, 0.05)])
def test_the_search_equals_a_plain_transliteration(scale: str, tau: int, nu: float) -> None:
    """θ and the rows of P agree after each of 45 steps, over two or more updates of P, also for τ ≥ d.

    The transliteration does the same arithmetic as the search: for τ ≤ d, centering leaves row τ of Vᵀ without
    variance, so that only rounding decides its direction.
    """
    start = torch.randn(D, generator=torch.Generator().manual_seed(1))
    settings = SearchSettings(
        steps=45,
        seed=9,
        mu=1e-2,
        learning_rate=2e-2,
        tau=tau,
        nu=nu,
        estimate_scale=scale,
        null_directions="remove",
    )
    search, removed = TokenSearch(start, settings, images=IMAGES, flip=True), set()
    for theta, rows in algorithm_1(start, settings):
        p = search.ask()
        losses = [loss(row, p.image, p.flipped, p.timestep, p.noise_seed) for row in p.candidates]
        search.tell(Losses(torch.stack(losses)))
        torch.testing.assert_close(search.theta, theta, rtol=1e-5, atol=1e-6)
        assert search.removed_dimensions == rows
        removed.add(rows)
    assert search.done
    assert removed - {0}  # the test must exercise the projection
