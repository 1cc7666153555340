"""TokenSearch: ask and tell, the samples of a step, rejected input."""

import math
from typing import Any

import pytest
import torch

from zoodip_core.config import SearchSettings
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.zeroth_order import Derivatives, Losses, Proposal, TokenSearch

ALPHAS = torch.linspace(0.999, 0.005, 1000)


def small(**changes: Any) -> SearchSettings:
    """Return settings of a short search with several updates of P."""
    return SearchSettings(**{"steps": 20, "tau": 4, "n": 2, **changes})


def started(d: int = 6, *, flip: bool = False, **changes: Any) -> TokenSearch:
    """Return a search over three images that starts at the origin."""
    return TokenSearch(torch.zeros(d), small(**changes), images=3, flip=flip, alphas_cumprod=ALPHAS)


def advance(search: TokenSearch, count: int, value: float = 0.5) -> list[Proposal]:
    """Advance the search with constant losses; return its proposals."""
    proposals = []
    for _ in range(count):
        proposals.append(search.ask())
        search.tell(Losses(torch.full((search.forwards_per_step,), value)))
    return proposals


def test_ask_is_idempotent() -> None:
    """A failed evaluation can be repeated: `ask` is idempotent until `tell`."""
    search = started()
    first = search.ask()
    assert search.ask() is first
    advance(search, 1)
    assert search.ask() is not first


def test_candidates_are_the_token_and_its_perturbations() -> None:
    """The first candidate equals θ bit for bit; the others are about μ√d away from it."""
    search = started(d=400, mu=1e-2)
    candidates = search.ask().candidates
    assert candidates.shape == (3, 400)
    assert candidates[0].equal(search.theta)
    assert (candidates[1:] - candidates[0]).norm(dim=1).tolist() == pytest.approx([0.2, 0.2], rel=0.2)


@pytest.mark.parametrize(("estimator", "forwards"), [("rge", 4), ("one_point", 4), ("spsa", 6)])
def test_forwards_per_step_is_the_number_of_candidates(estimator: str, forwards: int) -> None:
    """For n = 3, RGE and one-point need 4 U-Net evaluations, SPSA 6."""
    search = started(estimator=estimator, n=3)
    assert search.forwards_per_step == len(search.ask().candidates) == forwards


def test_samples_all_images_mirrors_and_noise_seeds() -> None:
    """Lines 3 and 4: images are equally likely, half are mirrored, t is in its range, noise seeds are unique."""
    proposals = advance(started(flip=True, steps=300), 300)
    for image in range(3):
        assert sum(p.image == image for p in proposals) == pytest.approx(100, abs=40)
    assert sum(p.flipped for p in proposals) == pytest.approx(150, abs=43)
    assert all(500 <= p.timestep < 900 for p in proposals)
    assert len({p.noise_seed for p in proposals}) == 300
    assert max(p.noise_seed for p in proposals) > 2**62


@pytest.mark.parametrize("seed", [0, 1])
def test_without_replacement_each_round_uses_every_image_once(seed: int) -> None:
    """The published script shuffles the images again for each round; orders depend on the seed."""
    proposals = advance(started(image_sampling="without_replacement", steps=60, seed=seed), 60)
    rounds = [tuple(p.image for p in proposals[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(one) == [0, 1, 2] for one in rounds)
    assert len(set(rounds)) == 6
    other = advance(started(image_sampling="without_replacement", steps=60, seed=seed + 7), 60)
    assert [p.image for p in proposals] != [p.image for p in other]


def test_redraw_replaces_the_pending_proposal() -> None:
    """The next proposal has other samples and directions. It is not a step, and a restored search repeats it."""
    search = started()
    first = search.ask()
    search.redraw()
    restored = TokenSearch.restore(search.state(), small(), images=3, alphas_cumprod=ALPHAS)
    second = search.ask()
    assert search.step == 0
    assert second.noise_seed != first.noise_seed
    assert not second.candidates.equal(first.candidates)
    assert restored.ask().candidates.equal(second.candidates)


def test_does_not_flip_by_default() -> None:
    """With flip=False (Algorithm 1 as printed), no proposal is mirrored."""
    assert not any(p.flipped for p in advance(started(steps=100), 100))


def test_snr_timesteps_exceed_the_partial_range() -> None:
    """timesteps="snr" replaces Eq. (9): it also draws outside [T_L, T_U)."""
    drawn = [p.timestep for p in advance(started(timesteps="snr", steps=200), 200)]
    assert min(drawn) < 500
    assert max(drawn) >= 900


def test_proposals_depend_only_on_the_seed() -> None:
    """Two searches with one seed propose the same bits, independent of torch's global seed."""
    first = advance(started(seed=3), 6)[-1]
    torch.manual_seed(123)
    second = advance(started(seed=3), 6)[-1]
    other = advance(started(seed=4), 6)[-1]
    assert first.candidates.equal(second.candidates)
    assert (first.image, first.timestep, first.noise_seed) == (
        second.image,
        second.timestep,
        second.noise_seed,
    )
    assert first.noise_seed != other.noise_seed


def test_the_token_is_copied() -> None:
    """The constructor and `theta` copy the token."""
    given = torch.ones(4)
    search = TokenSearch(given, small(), images=1)
    given.zero_()
    search.theta.zero_()
    assert search.theta.equal(torch.ones(4))


def test_is_done_after_the_last_step() -> None:
    """A search has L steps; `ask` after the last one raises."""
    search = started(steps=3)
    assert (search.step, search.done) == (0, False)
    advance(search, 3)
    assert (search.step, search.done) == (3, True)
    with pytest.raises(AssertionError, match="after the search is done"):
        search.ask()


def test_removed_dimensions_change_only_every_tau_steps() -> None:
    """Lines 9 and 10: P is empty until step τ and changes only at multiples of τ."""
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


def test_the_dimension_divisor_scales_the_step() -> None:
    """The divisor "dimension" shrinks ĝ by √((d'+n−1)/n). Adam's ε is so large that a step is proportional to ĝ."""
    settings = {"adam_beta1": 0.0, "adam_beta2": 0.0, "adam_eps": 1e10, "learning_rate": 1e8, "n": 2}
    moved = {}
    for scale in ("mean", "dimension"):
        search = started(d=50, estimate_scale=scale, **settings)
        search.ask()
        search.tell(Losses(torch.tensor([1.0, 2.0, 3.0])))
        moved[scale] = search.theta.norm()
    assert moved["mean"] / moved["dimension"] == pytest.approx(math.sqrt(51 / 2), rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_loss_that_is_not_finite_changes_nothing(bad: float) -> None:
    """NaN, infinity and values whose square overflows raise; the same step can then be completed."""
    search, uninterrupted = started(), started()
    advance(search, 2)
    advance(uninterrupted, 2)
    before, proposal = search.state(), search.ask()
    with pytest.raises(LossNotFiniteError, match="step 3"):
        search.tell(Losses(torch.tensor([0.1, bad, 0.2])))
    after = search.state()
    assert all(before[name].equal(after[name]) for name in before)
    assert search.ask() is proposal
    advance(search, 1, 0.3)
    advance(uninterrupted, 1, 0.3)
    assert search.theta.equal(uninterrupted.theta)


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
def test_tell_rejects_wrong_type_or_number(derivative: str, measured: Losses | Derivatives) -> None:
    """For n = 2, a step needs 3 losses or 2 derivatives, depending on the settings."""
    search = started(derivative=derivative)
    search.ask()
    with pytest.raises(AssertionError, match=r"values: got shape|requires"):
        search.tell(measured)
    assert search.step == 0


def test_tell_before_ask_is_rejected() -> None:
    """Losses are accepted only for a pending proposal."""
    with pytest.raises(AssertionError, match=r"tell\(\) before ask\(\)"):
        started().tell(Losses(torch.zeros(3)))


def test_requires_an_image_and_a_float32_token() -> None:
    """A search without images or with another type of token raises."""
    with pytest.raises(AssertionError, match="images: got 0; expected at least 1"):
        TokenSearch(torch.zeros(4), small(), images=0)
    with pytest.raises(AssertionError, match=r"theta: got torch\.float64 \(4,\); expected flat float32"):
        TokenSearch(torch.zeros(4, dtype=torch.float64), small(), images=1)


def test_accepts_half_precision_losses_with_a_graph() -> None:
    """Losses of any float type are accepted, without their autograd graph."""
    search = started()
    search.ask()
    search.tell(Losses(torch.tensor([0.5, 0.25, 1.0], dtype=torch.bfloat16, requires_grad=True)))
    assert not search.theta.requires_grad
    assert search.theta.any()


def test_pure_noise_alone_removes_most_of_the_history() -> None:
    """Caveat about Fig. 8: at the paper's settings, losses without signal remove about 106 of 128 dimensions."""
    settings = SearchSettings(steps=256, null_directions="remove")
    search = TokenSearch(torch.zeros(768), settings, images=1)
    generator = torch.Generator().manual_seed(0)
    removed = set()
    while not search.done:
        search.ask()
        search.tell(Losses(0.1 + 1e-3 * torch.randn(3, generator=generator)))
        removed.add(search.removed_dimensions)
    assert all(100 <= rows <= 112 for rows in removed - {0})
    assert removed - {0}
