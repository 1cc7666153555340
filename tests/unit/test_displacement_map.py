"""The map from latents and initial token to displacement: ridge regression, and the statistics of the latents."""

import pytest
import torch

from zoodip_core.displacement_map import RIDGE, TOKEN_WEIGHT, DisplacementMap, latent_statistics

N, S, D = 40, 6, 8


def linear_world(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return statistics and tokens of random subjects, and displacements that depend on both."""
    statistics = 5 + 3 * torch.randn(N, S, generator=generator)
    tokens = torch.randn(N, D, generator=generator)
    weights = torch.randn(S, D, generator=generator), torch.randn(D, D, generator=generator)
    return statistics, tokens, 1 + statistics @ weights[0] / 3 + tokens @ weights[1]


def test_prediction_is_that_of_kernel_ridge_regression() -> None:
    """It equals the textbook formula with a kernel between all pairs, written with loops."""
    statistics, tokens, moves = linear_world(torch.Generator().manual_seed(0))
    fitted = DisplacementMap.fit(statistics[1:], tokens[1:], moves[1:])
    s, t, m = (one.double() for one in (statistics, tokens, moves))
    s, t = s - s[1:].mean(0), t - t[1:].mean(0)
    spread, length = s[1:].square().mean(0), float(t[1:].square().sum(1).mean())

    def kernel(i: int, j: int) -> float:
        return float((s[i] * s[j] / spread).mean()) + TOKEN_WEIGHT * float(t[i] @ t[j]) / length

    among = torch.tensor([[kernel(i, j) for j in range(1, N)] for i in range(1, N)], dtype=torch.float64)
    to_first = torch.tensor([kernel(0, j) for j in range(1, N)], dtype=torch.float64)
    ridge = RIDGE * torch.eye(N - 1, dtype=torch.float64)
    expected = m[1:].mean(0) + to_first @ torch.linalg.inv(among + ridge) @ (m[1:] - m[1:].mean(0))
    torch.testing.assert_close(
        fitted.predict(statistics[0], tokens[0]).double(), expected, atol=1e-4, rtol=1e-4
    )


def test_prediction_for_a_new_subject_is_nearer_than_the_mean() -> None:
    """Both statistics and initial token are used: without one of them the error is larger."""
    statistics, tokens, moves = linear_world(torch.Generator().manual_seed(1))
    known, new = slice(0, 30), slice(30, N)
    blank_statistics, blank_tokens = torch.zeros_like(statistics), torch.zeros_like(tokens)

    def error(s: torch.Tensor, t: torch.Tensor) -> float:
        fitted = DisplacementMap.fit(s[known], t[known], moves[known])
        predicted = torch.stack([fitted.predict(*pair) for pair in zip(s[new], t[new], strict=True)])
        return float((predicted - moves[new]).square().sum())

    both = error(statistics, tokens)
    assert both < 0.5 * error(blank_statistics, tokens)
    assert both < 0.8 * error(statistics, blank_tokens)
    assert both < 0.5 * error(blank_statistics, blank_tokens)


def test_inputs_that_never_vary_predict_the_mean() -> None:
    """Equal pictures and tokens divide by no variance of zero."""
    moves = torch.randn(3, D, generator=torch.Generator().manual_seed(2))
    fitted = DisplacementMap.fit(torch.ones(3, S), torch.ones(3, D), moves)
    torch.testing.assert_close(fitted.predict(2 * torch.ones(S), torch.zeros(D)), moves.mean(0))


def test_statistics_are_those_of_the_middle_half() -> None:
    """A border does not change them; means come first, then standard deviations inside of each image."""
    latents = torch.zeros(2, 3, 8, 8)
    latents[0, 0, 2:6, 2:6] = 4
    latents[:, 1, 2:4, 2:6], latents[:, 1, 4:6, 2:6] = 1, 3
    expected = torch.tensor([2.0, 2, 0, 0, 1, 0])
    assert latent_statistics(latents).tolist() == pytest.approx(expected.tolist())
    latents[:, :, :2], latents[..., 6:] = 9, -9
    assert latent_statistics(latents).tolist() == pytest.approx(expected.tolist())
