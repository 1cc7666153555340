"""Search spaces: the coordinates of the full and of a calibrated space, and checkpoints of either."""

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.zeroth_order import Losses, TokenSearch
from zoodip_core.zeroth_order.search_space import FULL, CalibratedSearchSpace

D, K = 12, 3


def settings(steps: int = 40) -> SearchSettings:
    """Return settings of a quick search without Subspace Gradient."""
    return SearchSettings.parse(
        {"steps": steps, "n": 4, "learning_rate": 0.05, "adam_eps": 1e-8, "subspace": "none"}
    )


def space(floor: float = 0.05, seed: int = 0) -> CalibratedSearchSpace:
    """Return a space with random principal directions around a random token."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linalg.qr(torch.randn(D, K, generator=generator))[0].T.contiguous()
    return CalibratedSearchSpace(
        torch.randn(D, generator=generator), rows, torch.tensor([3.0, 2.0, 1.0]), floor
    )


def run(search: TokenSearch, goal: torch.Tensor, steps: int) -> None:
    """Advance a search for the token nearest to `goal`."""
    for _ in range(steps):
        search.tell(Losses((search.ask().candidates - goal).square().mean(1)))


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_coordinates_start_at_the_origin_and_keep_the_scale_of_the_full_space(floor: float) -> None:
    """At u = 0 the token is θ₀, and a random perturbation has the expected squared length d."""
    chosen = space(floor)
    u = chosen.start(torch.zeros(D))
    origin = chosen.embed(u)
    assert u.equal(torch.zeros(K + (D if floor else 0)))
    moved = chosen.embed(torch.eye(len(u))) - origin
    assert float(moved.square().sum()) == pytest.approx(D, rel=1e-4)


@pytest.mark.slow
def test_remainder_reaches_tokens_outside_the_span() -> None:
    """Without a remainder the search stays in the span; with one it comes closer to a token outside."""
    generator = torch.Generator().manual_seed(7)
    far = space().embed(space().start(torch.zeros(D))) + torch.randn(D, generator=generator)
    left = {}
    for floor in (0.0, 0.3):
        search = TokenSearch(torch.zeros(D), settings(800), images=1, space=space(floor))
        run(search, far, 800)
        left[floor] = float((search.theta - far).norm())
    assert left[0.3] < 0.3 * left[0.0]


def test_calibrated_search_resumes_bit_for_bit() -> None:
    """A restored search ends with the same bits as an uninterrupted one."""
    goal = torch.ones(D)
    first = TokenSearch(torch.zeros(D), settings(), images=1, space=space())
    run(first, goal, 15)
    second = TokenSearch.restore(first.state(), settings(), images=1, space=space())
    run(first, goal, 25)
    run(second, goal, 25)
    assert first.theta.equal(second.theta)


def test_state_of_one_space_is_refused_in_another() -> None:
    """Neither full and calibrated space nor two calibrations continue each other's search."""
    calibrated = TokenSearch(torch.zeros(D), settings(), images=1, space=space()).state()
    full = TokenSearch(torch.zeros(D), settings(), images=1).state()
    assert "space.sha256" not in full
    with pytest.raises(InvalidCheckpointError, match="got a search in a calibrated space"):
        TokenSearch.restore(calibrated, settings(), images=1, space=FULL)
    with pytest.raises(InvalidCheckpointError, match="got a search in the full space"):
        TokenSearch.restore(full, settings(), images=1, space=space())
    with pytest.raises(InvalidCheckpointError, match="got a search in a calibrated space"):
        TokenSearch.restore(calibrated, settings(), images=1, space=space(seed=1))
