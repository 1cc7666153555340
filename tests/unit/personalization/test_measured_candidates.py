"""Test the values that a search measures from the predictions for its candidates."""

import pytest
import torch

from zoodip_core.config import PersonalizationSettings
from zoodip_core.personalization.measurements import measure
from zoodip_core.zeroth_order.measured_values import Curvature


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_derivatives_and_curvature_agree(weighted: bool) -> None:
    """The loss is quadratic in the prediction: along direction i it changes by μ D_i + μ² M_ii ÷ 2, however far."""
    generator = torch.Generator().manual_seed(8)
    settings = PersonalizationSettings.parse({"search_space": "calibrated"})
    prediction, target = torch.randn(5, 4, 8, 8, generator=generator), torch.randn(4, 8, 8)
    weight = 2 * torch.rand(1, 8, 8, generator=generator) if weighted else None
    measured = measure(settings, prediction, target, weight)
    assert isinstance(measured, Curvature)
    squares = (prediction - target).square() * (1 if weight is None else weight)
    torch.testing.assert_close(measured.losses, squares.flatten(1).mean(dim=1))
    change = settings.mu * measured.values + settings.mu**2 / 2 * measured.matrix.diagonal()
    torch.testing.assert_close(measured.losses[1:] - measured.losses[0], change, rtol=1e-4, atol=1e-5)
