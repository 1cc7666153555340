"""TokenSearch: ask and tell, what a step samples, refusals."""

import math
from typing import Any

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.zeroth_order import Derivatives, Losses, Proposal, TokenSearch

ALPHAS = torch.linspace(0.999, 0.005, 1000)


def small(**changes: Any) -> SearchSettings:
    """A short run with several updates of P."""
    return SearchSettings(**{"steps": 20, "tau": 4, "n": 2, **changes})


def started(d: int = 6, *, flip: bool = False, **changes: Any) -> TokenSearch:
    """A search over three images from the origin."""
    return TokenSearch(torch.zeros(d), small(**changes), images=3, flip=flip, alphas_cumprod=ALPHAS)


def asked(search: TokenSearch, count: int, value: float = 0.5) -> list[Proposal]:
    """Proposals of a run whose losses do not depend on the candidates."""
    proposals = []
    for _ in range(count):
        proposals.append(search.ask())
        search.tell(Losses(torch.full((search.forwards_per_step,), value)))
    return proposals


def test_asking_twice_gives_the_same_proposal() -> None:
    """A forward that crashed can be repeated: ask() is idempotent until tell()."""
    search = started()
    first = search.ask()
    assert search.ask() is first
    asked(search, 1)
    assert search.ask() is not first


def test_candidates_are_the_token_and_its_perturbations() -> None:
    """The first candidate is θ bit for bit and the others lie about μ√d from it."""
    search = started(d=400, mu=1e-2)
    candidates = search.ask().candidates
    assert candidates.shape == (3, 400)
    assert candidates[0].equal(search.theta)
    assert (candidates[1:] - candidates[0]).norm(dim=1).tolist() == pytest.approx([0.2, 0.2], rel=0.2)


@pytest.mark.parametrize(("estimator", "forwards"), [("rge", 4), ("one_point", 4), ("spsa", 6)])
def test_forwards_per_step_is_the_number_of_candidates(estimator: str, forwards: int) -> None:
    """N = 3: RGE and one-point ask for 4 forwards, SPSA for 6."""
    search = started(estimator=estimator, n=3)
    assert search.forwards_per_step == len(search.ask().candidates) == forwards


def test_samples_every_image_both_mirrors_and_fresh_noise() -> None:
    """Lines 3 and 4: images equally likely, mirrors half of the time, t in its range, no noise seed twice."""
    proposals = asked(started(flip=True, steps=300), 300)
    for image in range(3):
        assert sum(p.image == image for p in proposals) == pytest.approx(100, abs=40)
    assert sum(p.flipped for p in proposals) == pytest.approx(150, abs=43)
    assert all(500 <= p.timestep < 900 for p in proposals)
    assert len({p.noise_seed for p in proposals}) == 300
    assert max(p.noise_seed for p in proposals) > 2**62


def test_never_flips_unless_told_to() -> None:
    """flip=False, Algorithm 1 as printed: no proposal asks for a mirror."""
    assert not any(p.flipped for p in asked(started(steps=100), 100))


def test_snr_timesteps_leave_the_partial_range() -> None:
    """timesteps="snr" replaces Eq. (9): it draws outside [T_L, T_U)."""
    drawn = [p.timestep for p in asked(started(timesteps="snr", steps=200), 200)]
    assert min(drawn) < 500
    assert max(drawn) >= 900


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    """Two searches of one seed propose the same bits, whatever happened to torch's global seed."""
    first = asked(started(seed=3), 6)[-1]
    torch.manual_seed(123)
    second = asked(started(seed=3), 6)[-1]
    other = asked(started(seed=4), 6)[-1]
    assert first.candidates.equal(second.candidates)
    assert (first.image, first.timestep, first.noise_seed) == (
        second.image,
        second.timestep,
        second.noise_seed,
    )
    assert first.noise_seed != other.noise_seed


def test_the_callers_token_is_neither_kept_nor_changed() -> None:
    """θ is copied on the way in and on the way out."""
    given = torch.ones(4)
    search = TokenSearch(given, small(), images=1)
    given.zero_()
    search.theta.zero_()
    assert search.theta.equal(torch.ones(4))


def test_counts_its_steps_and_is_done_after_the_last() -> None:
    """L steps, no more: asking a finished search is our mistake."""
    search = started(steps=3)
    assert (search.step, search.done) == (0, False)
    asked(search, 3)
    assert (search.step, search.done) == (3, True)
    with pytest.raises(AssertionError, match="done"):
        search.ask()


def test_dimensions_are_removed_at_every_tau_th_step_and_only_then() -> None:
    """Lines 9 and 10: P is empty until step τ and changes at multiples of τ alone."""
    search = started(steps=20, tau=5, nu=0.3, learning_rate=0.1)
    removed, generator = [], torch.Generator().manual_seed(0)
    for _ in range(20):
        search.ask()
        search.tell(Losses(torch.randn(3, generator=generator)))
        removed.append(search.removed_dimensions)
    assert removed[:4] == [0] * 4
    assert removed[4] > 0
    for block in range(3):
        assert len(set(removed[5 * block + 4 : 5 * block + 9])) == 1


def test_the_divisor_follows_the_dimensions_that_are_left() -> None:
    """With an ε of Adam so large that steps are proportional to ĝ, "dimension" shrinks by √((d'+n−1)/n)."""
    settings = {"adam_beta1": 0.0, "adam_beta2": 0.0, "adam_eps": 1e10, "learning_rate": 1e8, "n": 2}
    moved = {}
    for scale in ("mean", "dimension"):
        search = started(d=50, estimate_scale=scale, **settings)
        search.ask()
        search.tell(Losses(torch.tensor([1.0, 2.0, 3.0])))
        moved[scale] = search.theta.norm()
    assert moved["mean"] / moved["dimension"] == pytest.approx(math.sqrt(51 / 2), rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_loss_that_is_not_finite_leaves_the_search_as_it_was(bad: float) -> None:
    """NaN, infinity and overflow in the moments raise an error; the same step can then be completed."""
    search, undisturbed = started(), started()
    asked(search, 2)
    asked(undisturbed, 2)
    before, proposal = search.state(), search.ask()
    with pytest.raises(LossNotFiniteError, match="step 3"):
        search.tell(Losses(torch.tensor([0.1, bad, 0.2])))
    after = search.state()
    assert all(before[name].equal(after[name]) for name in before)
    assert search.ask() is proposal
    asked(search, 1, 0.3)
    asked(undisturbed, 1, 0.3)
    assert search.theta.equal(undisturbed.theta)


@pytest.mark.parametrize(
    ("derivative", "measured"),
    [
        ("loss_difference", Losses(torch.zeros(2))),
        ("loss_difference", Losses(torch.zeros(4))),
        ("loss_difference", Derivatives(torch.zeros(2))),
        ("residual", Losses(torch.zeros(3))),
        ("residual", Derivatives(torch.zeros(3))),
    ],
)
def test_tell_rejects_the_wrong_kind_or_number(derivative: str, measured: Losses | Derivatives) -> None:
    """With n = 2 a step takes 3 losses or 2 derivatives, as the settings say."""
    search = started(derivative=derivative)
    search.ask()
    with pytest.raises(AssertionError, match=r"got values of shape|requires"):
        search.tell(measured)
    assert search.step == 0


def test_tell_before_ask_is_rejected() -> None:
    """Losses belong to a proposal."""
    with pytest.raises(AssertionError, match="before ask"):
        started().tell(Losses(torch.zeros(3)))


def test_needs_an_image_and_a_token_in_fp32() -> None:
    """A search without images, or on another type of token, is our mistake."""
    with pytest.raises(AssertionError, match="images must be at least 1"):
        TokenSearch(torch.zeros(4), small(), images=0)
    with pytest.raises(AssertionError, match="float32"):
        TokenSearch(torch.zeros(4, dtype=torch.float64), small(), images=1)


def test_losses_of_half_precision_and_with_a_graph_are_taken() -> None:
    """Whatever float type the model gives is differenced in double precision, without its graph."""
    search = started()
    search.ask()
    search.tell(Losses(torch.tensor([0.5, 0.25, 1.0], dtype=torch.bfloat16, requires_grad=True)))
    assert not search.theta.requires_grad
    assert search.theta.any()


def test_pure_noise_alone_removes_most_of_the_history() -> None:
    """Caveat to Fig. 8: at the paper's settings losses without any signal remove about 106 of 128."""
    search = TokenSearch(torch.zeros(768), SearchSettings(steps=256), images=1)
    generator = torch.Generator().manual_seed(0)
    removed = set()
    while not search.done:
        search.ask()
        search.tell(Losses(0.1 + 1e-3 * torch.randn(3, generator=generator)))
        removed.add(search.removed_dimensions)
    assert all(100 <= rows <= 112 for rows in removed - {0})
    assert removed - {0}
