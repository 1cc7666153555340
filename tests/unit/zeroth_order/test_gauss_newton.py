"""The Gauss–Newton search: the filter equals Bayes' rule, learns with few evaluations, and resumes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.unit.zeroth_order.linear_model import (
    SETTINGS,
    STEEP,
    D,
    K,
    advance,
    curvature_of,
    excess,
    residuals,
    search,
    space,
)
from zoodip_core.errors import InvalidCheckpointError, LossNotFiniteError
from zoodip_core.zeroth_order import Losses, TokenSearch
from zoodip_core.zeroth_order.gauss_newton import (
    GaussNewtonSearch,
    adapted_curvature,
    filter_step,
    regression,
)
from zoodip_core.zeroth_order.measured_values import Curvature
from zoodip_core.zeroth_order.search_space import (
    FULL,
    NOISE,
    REMAINDER,
    REMAINDER_CURVATURE,
)


def test_step_is_the_posterior_of_a_linear_gaussian_model() -> None:
    """The mean and covariance equal those of Bayes' rule in information form, up to the damping."""
    generator = torch.Generator().manual_seed(0)
    covariance, curvature = torch.eye(3).double() * 0.5, torch.diag(torch.tensor([0.6, 0.3, 0.1])).double()
    directions = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    derivatives = torch.randn(2, generator=generator, dtype=torch.float64)
    shape = directions @ curvature @ directions.T
    other = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    matrix = 4 * shape + other @ other.T  # a sample whose curvature is not the mean's
    continued = regression(curvature, directions, damping=0.0)
    move, after = filter_step(covariance, continued, Curvature(derivatives, matrix, torch.ones(1)), NOISE)
    observed, noise = matrix @ torch.linalg.inv(shape) @ directions @ curvature, NOISE * matrix
    torch.testing.assert_close(observed @ directions.T, matrix)  # as measured
    information = torch.linalg.inv(covariance) + observed.T @ torch.linalg.inv(noise) @ observed
    expected = torch.linalg.inv(information)
    torch.testing.assert_close(after, expected)
    torch.testing.assert_close(move, -expected @ observed.T @ torch.linalg.inv(noise) @ derivatives)


def test_sample_that_does_not_depend_on_the_token_changes_nothing() -> None:
    """Derivatives of zero leave u and the covariance as they are."""
    covariance, nothing = torch.eye(3).double(), Curvature(torch.zeros(2), torch.zeros(2, 2), torch.ones(3))
    directions = torch.eye(3).double()[:2]
    move, after = filter_step(covariance, regression(torch.eye(3).double() / 3, directions), nothing, NOISE)
    assert move.equal(torch.zeros(3).double())
    assert after.equal(covariance)


def test_fewer_evaluations_than_adam_where_one_direction_is_steep() -> None:
    """After the same evaluations the excess loss is below a third of Adam's in the same coordinates."""
    generator, left = torch.Generator().manual_seed(1), {"filter": 0.0, "adam": 0.0}
    for _ in range(5):
        goal = torch.randn(D, generator=generator)
        one = search()
        advance(one, goal, generator, 60)
        left["filter"] += excess(one.theta, goal)
        other = TokenSearch(torch.zeros(D), SETTINGS, images=1, space=space())
        for _ in range(60):
            other.tell(Losses(residuals(other.ask().candidates, goal, generator).square().mean(1)))
        left["adam"] += excess(other.theta, goal)
    assert left["filter"] < left["adam"] / 3


def test_target_outside_the_span_is_reached() -> None:
    """A token that only the remainder can reach loses more than half of its excess loss."""
    generator, goal = torch.Generator().manual_seed(4), torch.zeros(D)
    goal[K:] = 0.3
    flat = REMAINDER_CURVATURE * STEEP.sum() / (REMAINDER * K)
    steep = torch.cat([STEEP, flat.expand(D - K)])
    one = search(n=4)
    for _ in range(200):
        left = (one.ask().candidates - goal) * steep.sqrt() + 0.1 * torch.randn(D, generator=generator)
        one.tell(curvature_of(left))
    assert float(((one.theta - goal).square() * steep).sum()) < 0.5 * float((goal.square() * steep).sum())


@pytest.mark.parametrize("steps", [2, 15])
def test_search_resumes_bit_for_bit(steps: int) -> None:
    """A restored search ends with the same bits as an uninterrupted one, also from between compared steps."""
    goal, chosen = torch.ones(D), space(starts=torch.stack([torch.full((D,), 0.5), torch.zeros(D)]))
    first = search(chosen)
    advance(first, goal, torch.Generator().manual_seed(2), steps)
    second = GaussNewtonSearch.restore(first.state(), SETTINGS, images=1, space=chosen)
    for one in (first, second):
        advance(one, goal, torch.Generator().manual_seed(3), 25)
    assert first.theta.equal(second.theta)


def test_state_of_one_space_is_refused_in_another() -> None:
    """Neither full and calibrated space nor two calibrations continue each other's search."""
    calibrated = search().state()
    full = TokenSearch(torch.zeros(D), SETTINGS, images=1).state()
    assert "space.sha256" not in full
    with pytest.raises(InvalidCheckpointError, match="got a search in a calibrated space"):
        TokenSearch.restore(calibrated, SETTINGS, images=1, space=FULL)
    with pytest.raises(InvalidCheckpointError, match="got a search in the full space"):
        GaussNewtonSearch.restore(full, SETTINGS, images=1, space=space())
    with pytest.raises(InvalidCheckpointError, match="got a search in a calibrated space"):
        GaussNewtonSearch.restore(calibrated, SETTINGS, images=1, space=space(STEEP.flip(0)))


def test_curvature_adapts_to_the_samples() -> None:
    """Blocks of one curvature, at any scale, lead from another one to it. Trace and symmetry stay."""
    generator = torch.Generator().manual_seed(5)
    true, adapted = torch.diag(STEEP.double() / STEEP.sum()), torch.eye(K).double() / K
    start = (adapted - true).norm()
    for step in range(60):
        directions = torch.linalg.qr(torch.randn(K, 3, generator=generator, dtype=torch.float64)).Q.T
        matrix = 10.0**-step * directions @ true @ directions.T
        continued = regression(adapted, directions)
        adapted = adapted_curvature(
            adapted, directions, continued, Curvature(torch.zeros(3), matrix, torch.ones(4))
        )
    assert float(adapted.trace()) == pytest.approx(1)
    torch.testing.assert_close(adapted, adapted.T)
    assert float(torch.linalg.eigvalsh(adapted)[0]) > 0
    assert float((adapted - true).norm()) < 0.3 * float(start)


def test_curvature_stays_if_the_sample_does_not_depend_on_the_token() -> None:
    """A block of zeros has no shape."""
    curvature, nothing = torch.eye(K).double(), Curvature(torch.zeros(2), torch.zeros(2, 2), torch.ones(3))
    directions = torch.eye(K).double()[:2]
    continued = regression(curvature, directions)
    assert adapted_curvature(curvature, directions, continued, nothing).equal(curvature)


def test_calibration_with_another_curvature_costs_few_evaluations() -> None:
    """After 60 steps of four directions from a reversed curvature little is left of the excess loss."""
    left = 0.0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        goal, one = torch.randn(D, generator=generator), search(space(STEEP.flip(0)), n=4)
        advance(one, goal, generator, 60)
        left += excess(one.theta, goal) / excess(torch.zeros(D), goal) / 5
    assert left < 0.01


def test_token_is_an_average_that_forgets() -> None:
    """The average weights the newest coordinates most, and starts at the first step's."""
    generator, goal, one = torch.Generator().manual_seed(7), torch.ones(D), search()
    expected = torch.zeros(D)
    for step in range(1, 41):
        advance(one, goal, generator, 1)
        weight = 16 / (step + 15)
        expected = (1 - weight) * expected + weight * space().embed(one.state()["theta"])
        torch.testing.assert_close(one.theta, expected)
    assert not one.theta.equal(space().embed(one.state()["theta"]))


@pytest.mark.parametrize(
    "name", ["filter.covariance", "filter.curvature", "filter.average", "filter.start_losses"]
)
@pytest.mark.parametrize("damage", [lambda one: one.fill_(float("nan")), lambda one: one[None]])
def test_damaged_matrix_is_refused(name: str, damage: Callable[[Tensor], Tensor]) -> None:
    """A covariance or curvature with NaN or of another size is an error."""
    chosen = space(starts=torch.zeros(2, D))
    state = search(chosen).state()
    state[name] = damage(state[name])
    with pytest.raises(InvalidCheckpointError, match=name.replace(".", r"\.")):
        GaussNewtonSearch.restore(state, SETTINGS, images=1, space=chosen)


def test_value_that_is_not_finite_leaves_the_search_unchanged() -> None:
    """A NaN or an overflowing curvature is an error, and the step can be repeated."""
    one = search()
    one.ask()
    before = one.state()
    for values in (
        Curvature(torch.tensor([float("nan"), 0]), torch.eye(2), torch.ones(3)),
        Curvature(torch.ones(2), torch.full((2, 2), 1e30), torch.ones(3)),
        Curvature(torch.ones(2), torch.eye(2), torch.tensor([1.0, float("inf"), 1])),
    ):
        with pytest.raises(LossNotFiniteError):
            one.tell(values)
    assert all(tensor.equal(before[name]) for name, tensor in one.state().items())
    with pytest.raises(AssertionError, match="requires Curvature"):
        one.tell(Losses(torch.ones(3)))
