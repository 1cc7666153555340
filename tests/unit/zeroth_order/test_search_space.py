"""Search spaces: the coordinates of the full and of a calibrated space."""

import pytest
import torch

from zoodip_core.zeroth_order.search_space import (
    FULL,
    REMAINDER,
    REMAINDER_CURVATURE,
    CalibratedSearchSpace,
)

D, K = 12, 3


def space(seed: int = 0) -> CalibratedSearchSpace:
    """Return a space with random principal directions around a random token."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linalg.qr(torch.randn(D, K, generator=generator))[0].T.contiguous()
    scales = torch.tensor([3.0, 2.0, 1.0])
    return CalibratedSearchSpace(torch.randn(D, generator=generator), rows, scales, torch.eye(K) / K)


def test_coordinates_start_at_the_origin() -> None:
    """At u = 0 the token is θ₀; coordinates of the full space are the token."""
    chosen = space()
    u = chosen.start(torch.zeros(D))
    assert u.equal(torch.zeros(D))
    origin = chosen.embed(u)
    assert FULL.embed(FULL.start(origin)).equal(origin)


def test_coordinates_do_not_depend_on_the_length_of_embeddings() -> None:
    """With embeddings and moves a thousandth as long, the same coordinates are a thousandth as far away."""
    origin, rows, scales = torch.ones(D), torch.eye(D)[:K], torch.tensor([3.0, 2.0, 1.0])
    u = torch.arange(D) / D
    long, short = (
        CalibratedSearchSpace(
            origin * factor, rows, scales * factor, torch.eye(K) / K, (torch.ones(1, D) * factor)
        )
        for factor in (1.0, 1e-3)
    )
    torch.testing.assert_close(short.embed(u), 1e-3 * long.embed(u))
    torch.testing.assert_close(short.start(origin), long.start(origin))


def test_search_starts_at_the_first_start() -> None:
    """The others are coordinates. Origin and identity of the space stay those of the initial token."""
    generator = torch.Generator().manual_seed(3)
    origin, starts = torch.randn(D, generator=generator), torch.randn(3, D, generator=generator)
    rows = torch.linalg.qr(torch.randn(D, K, generator=generator))[0].T.contiguous()
    given = origin, rows, torch.tensor([3.0, 2.0, 1.0]), torch.eye(K) / K
    chosen, plain = CalibratedSearchSpace(*given, starts), CalibratedSearchSpace(*given)
    torch.testing.assert_close(chosen.embed(chosen.start(origin)), origin + starts[0])
    torch.testing.assert_close(chosen.embed(chosen.other_starts), origin + starts[1:])
    assert len(plain.other_starts) == 0
    assert chosen.embed(torch.zeros(D)).equal(origin)
    assert chosen.state()["space.sha256"].equal(plain.state()["space.sha256"])


def test_coordinates_of_learned_tokens_have_the_same_variance_in_each_direction() -> None:
    """A move of one scale along any principal direction has the length 1 in coordinates."""
    chosen = space()
    moves = chosen.embed(torch.eye(D)[:K]) - chosen.embed(torch.zeros(D))
    assert moves.norm(dim=1).tolist() == pytest.approx([3.0, 2.0, 1.0], rel=1e-4)


def test_remainder_reaches_every_token_with_small_moves() -> None:
    """All coordinates move the token independently; those of the remainder share their length and curvature."""
    chosen = space()
    moves = chosen.embed(torch.eye(D)) - chosen.embed(torch.zeros(D))
    products = moves @ moves.T
    torch.testing.assert_close(products, torch.diag(products.diagonal()), atol=1e-5, rtol=0)
    assert float(products[K:, K:].trace() / products[:K, :K].trace()) == pytest.approx(REMAINDER, rel=1e-4)
    assert len(products[K:, K:].diagonal().round(decimals=4).unique()) == 1
    assert float(chosen.curvature[K:, K:].trace()) == pytest.approx(REMAINDER_CURVATURE)


def test_basis_of_all_dimensions_leaves_no_remainder() -> None:
    """A calibration with as many directions as dimensions is a space of these alone."""
    chosen = CalibratedSearchSpace(torch.zeros(2), torch.eye(2), torch.tensor([2.0, 1.0]), torch.eye(2) / 2)
    assert chosen.embed(torch.eye(2)).shape == (2, 2)
    assert chosen.curvature.equal(torch.eye(2).double() / 2)
