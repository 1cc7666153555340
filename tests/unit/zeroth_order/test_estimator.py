"""Gradient estimates: candidates, and accuracy on functions with a known gradient."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from zoodip_core.zeroth_order.directions import DIRECTIONS
from zoodip_core.zeroth_order.estimator import DIVISORS, ESTIMATORS, gradient_estimate
from zoodip_core.zeroth_order.measured_values import Derivatives, Losses

EVERY_ESTIMATOR = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def seeded(seed: int) -> Generator:
    """Return a new generator with this seed."""
    return torch.Generator().manual_seed(seed)


def estimate(
    name: str,
    loss: Callable[[Tensor], Tensor],
    theta: Tensor,
    directions: Tensor,
    mu: float,
    divisor: float,
) -> Tensor:
    """Return ĝ of a loss function."""
    estimator = ESTIMATORS[name]
    losses = torch.stack([loss(row) for row in estimator.candidates(theta, directions, mu)])
    return gradient_estimate(
        estimator.derivatives(losses, mu), estimator.derivative_directions(directions), divisor
    )


@given(seed=st.integers(0, 2**32), d=st.integers(1, 20), mu=st.floats(1e-4, 10))
@settings(deadline=None, max_examples=30, database=None)
@pytest.mark.parametrize("name", ["rge", "spsa"])
def test_on_a_linear_function_gives_the_projection_on_the_direction(
    name: str, seed: int, d: int, mu: float
) -> None:
    """Eq. (3) and (S11): for L = gᵀθ and n = 1, the estimate is (uᵀg)u for every μ."""
    g, theta, u = torch.randn(3, d, generator=seeded(seed), dtype=torch.float64)
    g_hat = estimate(name, lambda row: row @ g, theta, u[None], mu, 1.0)
    torch.testing.assert_close(g_hat, (u @ g) * u, rtol=1e-6, atol=1e-8)


def test_one_point_on_a_linear_function_takes_the_direction_of_the_later_loss() -> None:
    """Eq. (S12), corrected: for L = gᵀθ and n = 1, the estimate is (u₂ᵀg − u₁ᵀg)u₂."""
    g, theta, first, second = torch.randn(4, 6, generator=seeded(0), dtype=torch.float64)
    g_hat = estimate("one_point", lambda row: row @ g, theta, torch.stack([first, second]), 0.1, 1.0)
    torch.testing.assert_close(g_hat, (second @ g - first @ g) * second)


@EVERY_ESTIMATOR
@pytest.mark.parametrize("kind", sorted(DIRECTIONS))
def test_is_unbiased_and_points_uphill(name: str, kind: str) -> None:
    """The mean of 1,000 estimates of a linear function is its gradient (sign included) within 5 standard errors."""
    d, n, draws, g = 4, 3, 1000, torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    generator, estimator = seeded(1), ESTIMATORS[name]
    estimates = torch.stack(
        [
            estimate(
                name,
                lambda row: row @ g,
                torch.zeros(d).double(),
                DIRECTIONS[kind](estimator.direction_count(n), d, generator).double(),
                1e-2,
                float(n),
            )
            for _ in range(draws)
        ]
    )
    error = (estimates.mean(0) - g).abs()
    assert (error < 5 * estimates.std(0) / draws**0.5).all()


def test_one_point_as_printed_would_climb() -> None:
    """Eq. (S12) with e_i as printed has the mean −g. The implementation therefore uses e_{i+1}."""
    g, generator, estimator = torch.tensor([1.0, -2.0]).double(), seeded(2), ESTIMATORS["one_point"]
    total = torch.zeros(2).double()
    for _ in range(2000):
        directions = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        losses = estimator.candidates(torch.zeros(2).double(), directions, 0.1) @ g
        total += estimator.derivatives(losses, 0.1) @ directions[:-1]
    torch.testing.assert_close(total / 2000, -g, rtol=0, atol=0.4)


@EVERY_ESTIMATOR
@pytest.mark.parametrize("n", [1, 2, 5])
def test_numbers_of_candidates_and_derivatives(name: str, n: int) -> None:
    """RGE and one-point evaluate n+1 candidates, SPSA 2n. Each returns n derivatives."""
    estimator = ESTIMATORS[name]
    directions = torch.randn(estimator.direction_count(n), 7, generator=seeded(0))
    candidates = estimator.candidates(torch.zeros(7), directions, 1e-3)
    assert len(candidates) == estimator.forwards(n) == {"rge": n + 1, "one_point": n + 1, "spsa": 2 * n}[name]
    assert estimator.derivatives(torch.zeros(len(candidates)), 1e-3).shape == (n,)
    assert estimator.derivative_directions(directions).shape == (n, 7)


@EVERY_ESTIMATOR
def test_theta_and_directions_are_not_modified(name: str) -> None:
    """Candidates are new tensors: writing to them changes neither θ nor the directions."""
    estimator, theta = ESTIMATORS[name], torch.arange(5.0)
    directions = torch.ones(estimator.direction_count(2), 5)
    estimator.candidates(theta, directions, 1e-3).zero_()
    assert theta.equal(torch.arange(5.0))
    assert directions.equal(torch.ones_like(directions))


def test_the_first_candidate_of_rge_is_theta_itself() -> None:
    """Eq. (3): the base loss and the residual derivative use the unperturbed token."""
    theta = torch.randn(5, generator=seeded(0))
    assert ESTIMATORS["rge"].candidates(theta, torch.ones(2, 5), 1e-3)[0].equal(theta)


@pytest.mark.parametrize("kind", sorted(DIRECTIONS))
def test_same_seed_same_directions_bit_for_bit(kind: str) -> None:
    """Directions depend only on the generator."""
    assert DIRECTIONS[kind](3, 9, seeded(4)).equal(DIRECTIONS[kind](3, 9, seeded(4)))
    assert not DIRECTIONS[kind](3, 9, seeded(4)).equal(DIRECTIONS[kind](3, 9, seeded(5)))


@given(count=st.integers(1, 12), d=st.integers(1, 8), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40, database=None)
def test_orthogonal_directions_are_orthogonal_and_keep_gaussian_lengths(
    count: int, d: int, seed: int
) -> None:
    """Each block of d rows has a diagonal Gram matrix with the squared norms of the Gaussian draw."""
    rows = DIRECTIONS["orthogonal"](count, d, seeded(seed))
    drawn = torch.randn(count, d, generator=seeded(seed))
    assert rows.shape == (count, d)
    for block, source in zip(torch.split(rows, d), torch.split(drawn, d), strict=True):
        expected = torch.diag(source.square().sum(1))
        torch.testing.assert_close(block @ block.T, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(block[0], source[0], rtol=1e-4, atol=1e-5)


def test_residual_is_the_difference_of_losses_without_its_positive_bias() -> None:
    """For an output Aθ, the residual is gᵀe for every μ; the loss difference exceeds it by μ·mean((Ae)²)."""
    generator = seeded(3)
    matrix, target = (
        torch.randn(10, 4, generator=generator).double(),
        torch.randn(10, generator=generator).double(),
    )
    theta, e = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    g = 2 * matrix.T @ (matrix @ theta - target) / 10
    rge = ESTIMATORS["rge"]
    for mu in (1.0, 1e-2, 1e-4):
        outputs = rge.candidates(theta, e[None], mu) @ matrix.T
        difference = Losses((outputs - target).square().mean(1)).derivatives(rge, mu)
        values = 2 * ((outputs[1:] - outputs[:1]) * (outputs[0] - target)).mean(1) / mu
        residual = Derivatives(values).derivatives(rge, mu)
        torch.testing.assert_close(residual, (g @ e)[None], rtol=1e-6, atol=1e-8)
        bias = mu * (matrix @ e).square().mean()
        torch.testing.assert_close(difference - residual, bias[None], rtol=1e-4, atol=1e-8)


def test_the_mean_divides_by_n() -> None:
    """Eq. (3): the default divisor is n for every number of dimensions."""
    assert DIVISORS["mean"](4, 768) == 4.0


def test_the_scripts_divisor_gives_the_estimate_the_length_of_the_gradient() -> None:
    """With the divisor n·√((d'+n−1)/n), the mean of ‖ĝ‖² on a linear function is ‖g‖² within 10 %."""
    d, n, generator, g = 200, 2, seeded(7), torch.zeros(200).double()
    g[0] = 3.0
    squares = []
    for _ in range(1000):
        directions = torch.randn(n, d, generator=generator, dtype=torch.float64)
        g_hat = gradient_estimate(directions @ g, directions, DIVISORS["dimension"](n, d))
        squares.append(g_hat.square().sum())
    assert torch.stack(squares).mean() == pytest.approx(9.0, rel=0.1)
