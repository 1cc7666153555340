"""A search with several starts: the best one is chosen from its first steps, at no further evaluations."""

import pytest
import torch
from torch import Tensor

from tests.unit.zeroth_order.linear_model import (
    SETTINGS,
    D,
    K,
    advance,
    excess,
    search,
    space,
)
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.start_comparison import SAMPLES, StartComparison


def starts(*tokens: Tensor) -> Tensor:
    """Return the displacements of tokens; the initial token is 0."""
    return torch.stack(tokens)


def test_good_prediction_is_kept_and_saves_steps() -> None:
    """A start near the goal stays, and ends nearer than a search from the initial token after the same steps."""
    goal, left = torch.zeros(D), list[float]()
    goal[:K] = torch.tensor([1.0, -1, 1, -1, 2, -2])
    for given in (starts(0.9 * goal, torch.zeros(D)), None):
        one = search(space(starts=given), n=4)
        advance(one, goal, torch.Generator().manual_seed(6), SAMPLES)
        left.append(excess(one.theta, goal))
    assert left[0] < 0.2 * left[1]


def test_wrong_prediction_is_left_after_the_compared_steps() -> None:
    """The search is then that of the initial token, with everything that it measured forgotten."""
    goal, wrong = torch.zeros(D), torch.zeros(D)
    goal[0], wrong[:K] = 0.1, -5 * torch.ones(K)
    one = search(space(starts=starts(wrong, torch.zeros(D))), n=4)
    fresh = search(n=4).state()
    torch.testing.assert_close(one.theta, wrong)
    for _ in range(SAMPLES):
        torch.testing.assert_close(one.ask().candidates[-1], torch.zeros(D), atol=1e-5, rtol=0)
        assert not one.theta.equal(torch.zeros(D))
        advance(one, goal, torch.Generator().manual_seed(6), 1)
    after = one.state()
    for name in ("theta", "filter.average", "filter.covariance", "filter.curvature"):
        assert after[name].equal(fresh[name])
    assert one.step == SAMPLES
    assert not one.ask().candidates[-1].equal(torch.zeros(D))


@pytest.mark.parametrize(("n", "steps"), [(4, 6), (8, 4), (1, 24)])
def test_more_starts_than_directions_take_turns(n: int, steps: int) -> None:
    """Each of six starts is evaluated on four samples or more, and the search continues from the best one."""
    generator = torch.Generator().manual_seed(4)
    others = torch.randn(6, D, generator=generator)
    goal = others[3] + 0.1 * torch.randn(D, generator=generator)
    one = search(space(starts=starts(torch.zeros(D), *others)), n=n)
    seen = []
    for _ in range(steps):
        assert not torch.allclose(one.theta, others[3], atol=1e-3)
        seen += [index for row in one.ask().candidates[1:] for index in range(6) if close(row, others[index])]
        advance(one, goal, generator, 1)
    torch.testing.assert_close(one.theta, others[3], atol=1e-4, rtol=1e-4)
    assert sorted(seen) == sorted([*range(6)] * SAMPLES)


def close(token: Tensor, other: Tensor) -> bool:
    """Return whether two tokens are equal up to rounding."""
    return torch.allclose(token, other, atol=1e-4)


def test_comparison_in_the_middle_resumes_bit_for_bit() -> None:
    """The losses so far are a part of the state."""
    generator = torch.Generator().manual_seed(4)
    chosen = space(starts=torch.cat([torch.zeros(1, D), torch.randn(6, D, generator=generator)]))
    goal, first = torch.randn(D, generator=generator), search(chosen, n=4)
    advance(first, goal, torch.Generator().manual_seed(2), 3)
    settings = SETTINGS.model_copy(update={"n": 4})
    second = GaussNewtonSearch.restore(first.state(), settings, images=1, space=chosen)
    for one in (first, second):
        advance(one, goal, torch.Generator().manual_seed(3), 12)
    assert first.theta.equal(second.theta)


def test_short_search_compares_nothing() -> None:
    """A search of which the comparison would take more than half learns from its first start."""
    others = torch.ones(6, D)
    assert StartComparison(others, n=4, steps=12).steps == 6
    short = StartComparison(others, n=4, steps=11)
    assert short.steps == 0
    assert len(short.evaluated(0)) == 0
    short.record(0, torch.ones(5))
    assert short.sums.numel() == 0


def test_short_search_cannot_become_one_that_compares() -> None:
    """Its first steps are not those of the long search, so the extension is refused."""
    chosen = space(starts=torch.cat([torch.zeros(1, D), torch.ones(6, D)]))
    short, long = (SETTINGS.model_copy(update={"n": 4, "steps": steps}) for steps in (11, 40))
    first = GaussNewtonSearch(torch.zeros(D), short, images=1, space=chosen)
    assert GaussNewtonSearch.restore(first.state(), short, images=1, space=chosen).step == 0
    with pytest.raises(InvalidCheckpointError, match="steps: got 40; expected the checkpoint's"):
        GaussNewtonSearch.restore(first.state(), long, images=1, space=chosen)


def test_losses_are_relative_to_those_on_the_same_samples() -> None:
    """Two starts are evaluated on different samples. The one that halves its loss wins over the smaller loss."""
    comparison = StartComparison(torch.eye(2), n=1, steps=100)
    for step in range(comparison.steps):
        comparison.record(step, torch.tensor([[2.0, 1.0], [0.2, 0.15]][step % 2]))
    better = comparison.better()
    assert better is not None
    assert better.tolist() == [1, 0]
