"""Subspace Gradient: algebra of the projector, the removed directions, degenerate histories."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoodip_core.config import NullDirectionsName, SearchSettings
from zoodip_core.zeroth_order.subspace import SUBSPACES, SubspaceGradient, low_variance_directions

SHAPES = {"tau": st.integers(2, 12), "d": st.integers(1, 16), "seed": st.integers(0, 2**32)}
FEW = settings(deadline=None, max_examples=40, database=None)


def random_walk(tau: int, d: int, seed: int) -> Tensor:
    """Return a history of independent Gaussian steps."""
    return torch.randn(tau, d, generator=torch.Generator().manual_seed(seed)).cumsum(0)


def fitted(history: Tensor, nu: float, null_directions: NullDirectionsName = "remove") -> SubspaceGradient:
    """Return a projection after one update on the history, by default as printed."""
    subspace = SubspaceGradient(history.shape[1], len(history), nu, null_directions)
    for index, theta in enumerate(history):
        subspace.record(index, theta)
    subspace.update()
    return subspace


@given(**SHAPES, nu=st.floats(1e-6, 0.99))
@FEW
def test_projector_is_symmetric_idempotent_and_removes_p(tau: int, d: int, seed: int, nu: float) -> None:
    """Eq. (8): Q = I − PᵀP has Q² = Q = Qᵀ, and ĝ' is orthogonal to P, for all τ and d (also τ ≥ d)."""
    subspace = fitted(random_walk(tau, d, seed), nu)
    q = torch.stack([subspace.project(row) for row in torch.eye(d)])
    torch.testing.assert_close(q @ q, q, rtol=0, atol=1e-5)
    torch.testing.assert_close(q, q.T, rtol=0, atol=1e-5)
    gradient = torch.randn(d, generator=torch.Generator().manual_seed(seed + 1))
    assert (subspace.removed @ subspace.project(gradient)).abs().sum() < 1e-4
    assert len(subspace.removed) < min(tau, d) or len(subspace.removed) == 0


@given(**SHAPES, nu=st.floats(1e-3, 0.9))
@FEW
def test_keeps_the_fewest_directions_above_the_share(tau: int, d: int, seed: int, nu: float) -> None:
    """Eq. (4) to (7): the eigenvectors of the correlation matrix give the same i* and the same span."""
    history = random_walk(tau, d, seed).double()
    standardized = (history - history.mean(0)) / history.std(0, unbiased=False)
    eigenvalues, vectors = torch.linalg.eigh(standardized.T @ standardized)
    eigenvalues, vectors = eigenvalues.flip(0).clamp(min=0), vectors.flip(1)
    shares = [eigenvalues[:count].sum() / eigenvalues.sum() for count in range(1, d + 1)]
    i_star = next(
        count for count, share in enumerate(shares, start=1) if share > 1 - nu or count == min(tau, d)
    )
    removed = low_variance_directions(history.float(), nu, null_directions="remove")
    assert len(removed) == min(tau, d) - i_star
    kept = vectors[:, :i_star]
    assert (removed.double() @ kept).abs().sum() < 1e-2


def test_rows_follow_equation_7_not_line_5_of_algorithm_2() -> None:
    """P starts at row i*+1, so the direction that raises the share above 1 − ν is kept. Alg. 2 prints rows i*…τ."""
    one_way = torch.linspace(-1, 1, 8)[:, None] * torch.tensor([1.0, 2.0, -1.0])  # so i* = 1
    removed = low_variance_directions(one_way + 1e-4 * random_walk(8, 3, 0), 1e-3, null_directions="remove")
    assert len(removed) == 2
    lone = torch.tensor([1.0, 1.0, -1.0])
    assert (removed @ lone).abs().max() < 1e-2


def test_a_larger_nu_removes_more_directions() -> None:
    """Eq. (6): the number of rows of P grows with ν."""
    history = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    counts = [
        len(low_variance_directions(history, nu, null_directions="keep")) for nu in (1e-3, 0.1, 0.5, 0.9)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_history_is_standardized_but_gradient_is_raw() -> None:
    """Eq. (4) and (8): scaling a dimension of the history changes neither P nor the gradient."""
    history = random_walk(12, 5, 0)
    scaled = history * torch.tensor([1.0, 1000.0, 0.001, 1.0, 1.0])
    gradient = torch.randn(5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        fitted(history, 0.2).project(gradient), fitted(scaled, 0.2).project(gradient), rtol=1e-4, atol=1e-4
    )


def test_is_the_identity_before_the_first_update() -> None:
    """Alg. 1 line 1: without rows in P, the gradient is unchanged bit for bit."""
    gradient = torch.randn(6, generator=torch.Generator().manual_seed(0))
    for name in SUBSPACES:
        subspace = SUBSPACES[name].from_settings(6, SearchSettings(tau=4))
        assert subspace.project(gradient).equal(gradient)
        assert len(subspace.removed) == 0


def test_the_history_is_cleared_by_an_update() -> None:
    """After an update, the history holds no token."""
    subspace = SubspaceGradient(3, 4, 1e-3, "keep")
    for index in range(4):
        subspace.record(index, torch.full((3,), float(index)))
    assert subspace.state()["subspace.token_history"].any()
    subspace.update()
    assert not subspace.state()["subspace.token_history"].any()


def test_option_none_removes_nothing() -> None:
    """The option subspace="none" ignores the history."""
    subspace = SUBSPACES["none"].from_settings(3, SearchSettings(tau=2))
    subspace.record(0, torch.ones(3))
    subspace.update()
    assert len(subspace.removed) == 0
    assert subspace.state() == {}


@pytest.mark.parametrize("value", [0.1, -7.3, 1e20])
def test_a_dimension_that_never_moved_is_ignored(value: float) -> None:
    """Eq. (4) with a deviation of 0: no NaN, and the other dimensions get the same projection as without it."""
    history = random_walk(7, 4, 3)
    history[:, 2] = value
    removed = low_variance_directions(history, 0.3, null_directions="remove")
    others = low_variance_directions(history[:, [0, 1, 3]], 0.3, null_directions="remove")
    assert removed.isfinite().all()
    assert len(removed) == len(others) + 1
    q_all = (torch.eye(4) - removed.T @ removed)[[0, 1, 3]][:, [0, 1, 3]]
    torch.testing.assert_close(q_all, torch.eye(3) - others.T @ others, rtol=0, atol=1e-5)


@pytest.mark.parametrize("null_directions", ["keep", "remove"])
@pytest.mark.parametrize("value", [0.3, 0.0])
def test_a_token_that_never_moved_removes_nothing(null_directions: NullDirectionsName, value: float) -> None:
    """Without variance, Eq. (6) is 0/0: every direction is kept."""
    history = torch.full((5, 3), value)
    assert low_variance_directions(history, 1e-3, null_directions=null_directions).shape == (0, 3)


@given(**SHAPES, nu=st.floats(1e-3, 0.9))
@FEW
def test_null_directions_are_kept(tau: int, d: int, seed: int, nu: float) -> None:
    """Centering leaves one direction without variance if τ ≤ d. The kept rows are those before it, bit for bit."""
    history = random_walk(tau, d, seed)
    kept = low_variance_directions(history, nu, null_directions="keep")
    printed = low_variance_directions(history, nu, null_directions="remove")
    assert len(kept) == max(0, len(printed) - (tau <= d))
    assert kept.equal(printed[: len(kept)])


def test_rounding_changes_the_projection_only_as_printed() -> None:
    """Another order of the same tokens rounds differently, as another machine does. It moves the null direction."""
    history = random_walk(16, 48, 5)
    gradient = torch.randn(48, generator=torch.Generator().manual_seed(1))

    def difference(null_directions: NullDirectionsName) -> float:
        first = fitted(history, 0.01, null_directions).project(gradient)
        second = fitted(history.flip(0), 0.01, null_directions).project(gradient)
        return float((first - second).norm() / gradient.norm())

    assert difference("keep") < 1e-6
    assert difference("remove") > 1e-3


def test_a_nu_below_rounding_removes_nothing() -> None:
    """If 1 − ν rounds to 1, no cumulative share exceeds it: P is empty, and no index is out of range."""
    assert len(low_variance_directions(random_walk(6, 9, 0), 1e-18, null_directions="remove")) == 0


def test_one_row_of_p_has_the_strides_of_a_loaded_one() -> None:
    """Strides select the kernel of a product and so its rounding. They must equal those of a loaded P."""
    removed = low_variance_directions(random_walk(2, 32, seed=0), 1e-3, null_directions="remove")
    assert removed.shape == (1, 32)
    assert removed.stride() == (32, 1)
