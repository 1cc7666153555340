"""Measurements for a search: losses or derivatives from the predictions for its candidates."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import directional_curvatures, directional_derivatives, row_losses
from zoodip_core.zeroth_order.estimator import Curvatures, Derivatives, Losses


def measure(
    settings: PersonalizationSettings,
    prediction: Float[Tensor, "rows c h w"],
    target: Float[Tensor, "c h w"],
) -> Losses | Derivatives:
    """Return losses, derivatives, or derivatives with curvatures, as the settings' search requires."""
    if settings.search_space == "calibrated":
        derivatives = directional_derivatives(prediction, target, settings.mu)
        return Curvatures(derivatives, directional_curvatures(prediction, settings.mu))
    if settings.derivative == "residual":
        return Derivatives(directional_derivatives(prediction, target, settings.mu))
    return Losses(row_losses(prediction, target.expand_as(prediction)))
