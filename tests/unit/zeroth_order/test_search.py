"""TokenSearch: proposals, steps, sampling and errors."""

import math
from typing import Any

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.zeroth_order import Derivatives, Losses, Proposal, TokenSearch

ALPHAS = torch.linspace(0.999, 0.005, 1000)


def short_settings(**changes: Any) -> SearchSettings:
    """Return settings of a short search with several updates of P."""
    return SearchSettings(**{"steps": 20, "tau": 4, "n": 2, **changes})


def new_search(d: int = 6, *, flip: bool = False, **changes: Any) -> TokenSearch:
    """Return a search over three images that starts at the origin."""
    return TokenSearch(torch.zeros(d), short_settings(**changes), images=3, flip=flip, alphas_cumprod=ALPHAS)


def run_steps(search: TokenSearch, count: int, value: float = 0.5) -> list[Proposal]:
    """Run steps in which all losses are equal; return the proposals."""
    proposals = []
    for _ in range(count):
        proposals.append(search.ask())
        search.tell(Losses(torch.full((search.forwards_per_step,), value)))
    return proposals


def test_ask_is_idempotent_until_tell() -> None:
    """A failed forward pass can be repeated: `ask` returns the same proposal until `tell`."""
    search = new_search()
    first = search.ask()
    assert search.ask() is first
    run_steps(search, 1)
    assert search.ask() is not first


def test_candidates_are_the_token_and_its_perturbations() -> None:
    """The first candidate is exactly θ, and the others are about μ√d away from it."""
    search = new_search(d=400, mu=1e-2)
    candidates = search.ask().candidates
    assert candidates.shape == (3, 400)
    assert candidates[0].equal(search.theta)
    assert (candidates[1:] - candidates[0]).norm(dim=1).tolist() == pytest.approx([0.2, 0.2], rel=0.2)


@pytest.mark.parametrize(("estimator", "forwards"), [("rge", 4), ("one_point", 4), ("spsa", 6)])
def test_forwards_per_step_is_the_number_of_candidates(estimator: str, forwards: int) -> None:
    """With n = 3, RGE and one-point take 4 evaluations, and SPSA takes 6."""
    search = new_search(estimator=estimator, n=3)
    assert search.forwards_per_step == len(search.ask().candidates) == forwards


def test_a_run_samples_images_mirrors_timesteps_and_noise() -> None:
    """Lines 3 and 4: images are uniform, half are mirrored, t is in its range, and noise seeds are unique."""
    proposals = run_steps(new_search(flip=True, steps=300), 300)
    for image in range(3):
        assert sum(p.image == image for p in proposals) == pytest.approx(100, abs=40)
    assert sum(p.flipped for p in proposals) == pytest.approx(150, abs=43)
    assert all(500 <= p.timestep < 900 for p in proposals)
    assert len({p.noise_seed for p in proposals}) == 300
    assert max(p.noise_seed for p in proposals) > 2**62


def test_no_image_is_mirrored_by_default() -> None:
    """With flip=False, which is Algorithm 1 as printed, no proposal is flipped."""
    assert not any(p.flipped for p in run_steps(new_search(steps=100), 100))


def test_snr_timesteps_cover_the_whole_schedule() -> None:
    """timesteps="snr" replaces Eq. (9) and draws outside [T_L, T_U)."""
    drawn = [p.timestep for p in run_steps(new_search(timesteps="snr", steps=200), 200)]
    assert min(drawn) < 500
    assert max(drawn) >= 900


def test_the_seed_determines_the_proposals() -> None:
    """Two searches with one seed make bit-identical proposals, regardless of torch's global seed."""
    first = run_steps(new_search(seed=3), 6)[-1]
    torch.manual_seed(123)
    second = run_steps(new_search(seed=3), 6)[-1]
    other = run_steps(new_search(seed=4), 6)[-1]
    assert first.candidates.equal(second.candidates)
    assert (first.image, first.timestep, first.noise_seed) == (
        second.image,
        second.timestep,
        second.noise_seed,
    )
    assert first.noise_seed != other.noise_seed


def test_theta_is_copied() -> None:
    """Changes to the argument or to the returned θ do not change the search."""
    theta = torch.ones(4)
    search = TokenSearch(theta, short_settings(), images=1)
    theta.zero_()
    search.theta.zero_()
    assert search.theta.equal(torch.ones(4))


def test_the_search_is_done_after_its_last_step() -> None:
    """After L steps, `ask` is a programming error."""
    search = new_search(steps=3)
    assert (search.step, search.done) == (0, False)
    run_steps(search, 3)
    assert (search.step, search.done) == (3, True)
    with pytest.raises(AssertionError, match="after the search is done"):
        search.ask()


def test_the_projector_changes_only_at_multiples_of_tau() -> None:
    """Lines 9 and 10: P is empty until step τ, and then changes only at multiples of τ."""
    search = new_search(steps=20, tau=5, nu=0.3, learning_rate=0.1)
    removed, generator = [], torch.Generator().manual_seed(0)
    for _ in range(20):
        search.ask()
        search.tell(Losses(torch.randn(3, generator=generator)))
        removed.append(search.removed_dimensions)
    assert removed[:4] == [0] * 4
    assert removed[4] > 0
    for block in range(3):
        assert len(set(removed[5 * block + 4 : 5 * block + 9])) == 1


def test_the_dimension_divisor_shortens_the_step() -> None:
    """The scale "dimension" divides ĝ by √((d'+n−1)/n); Adam's ε is so large that steps are proportional to ĝ."""
    settings = {"adam_beta1": 0.0, "adam_beta2": 0.0, "adam_eps": 1e10, "learning_rate": 1e8, "n": 2}
    moved = {}
    for scale in ("mean", "dimension"):
        search = new_search(d=50, estimate_scale=scale, **settings)
        search.ask()
        search.tell(Losses(torch.tensor([1.0, 2.0, 3.0])))
        moved[scale] = search.theta.norm()
    assert moved["mean"] / moved["dimension"] == pytest.approx(math.sqrt(51 / 2), rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_loss_that_is_not_finite_leaves_the_search_unchanged(bad: float) -> None:
    """NaN, infinity and overflow of the moments raise an error, and the same step can then be completed."""
    search, reference = new_search(), new_search()
    run_steps(search, 2)
    run_steps(reference, 2)
    before, proposal = search.state(), search.ask()
    with pytest.raises(LossNotFiniteError, match="step 3"):
        search.tell(Losses(torch.tensor([0.1, bad, 0.2])))
    after = search.state()
    assert all(before[name].equal(after[name]) for name in before)
    assert search.ask() is proposal
    run_steps(search, 1, 0.3)
    run_steps(reference, 1, 0.3)
    assert search.theta.equal(reference.theta)


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
    search = new_search(derivative=derivative)
    search.ask()
    with pytest.raises(AssertionError, match=r"values: got shape|requires"):
        search.tell(measured)
    assert search.step == 0


def test_tell_before_ask_is_rejected() -> None:
    """`tell` without a pending proposal is a programming error."""
    with pytest.raises(AssertionError, match="before ask"):
        new_search().tell(Losses(torch.zeros(3)))


def test_the_constructor_rejects_no_images_and_other_dtypes() -> None:
    """A search without images or with a token in float64 is a programming error."""
    with pytest.raises(AssertionError, match="images: got 0; expected at least 1"):
        TokenSearch(torch.zeros(4), short_settings(), images=0)
    with pytest.raises(AssertionError, match="float32"):
        TokenSearch(torch.zeros(4, dtype=torch.float64), short_settings(), images=1)


def test_tell_accepts_half_precision_losses_with_a_graph() -> None:
    """Losses of any float type are subtracted in double precision and detached from their graph."""
    search = new_search()
    search.ask()
    search.tell(Losses(torch.tensor([0.5, 0.25, 1.0], dtype=torch.bfloat16, requires_grad=True)))
    assert not search.theta.requires_grad
    assert search.theta.any()


def test_pure_noise_alone_removes_most_of_the_history() -> None:
    """Caveat to Fig. 8: with the paper's settings, losses of pure noise remove about 106 of 128 dimensions."""
    search = TokenSearch(torch.zeros(768), SearchSettings(steps=256), images=1)
    generator = torch.Generator().manual_seed(0)
    removed = set()
    while not search.done:
        search.ask()
        search.tell(Losses(0.1 + 1e-3 * torch.randn(3, generator=generator)))
        removed.add(search.removed_dimensions)
    assert all(100 <= rows <= 112 for rows in removed - {0})
    assert removed - {0}
