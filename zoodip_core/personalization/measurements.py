"""Measurements for a search: losses or derivatives from the predictions for its candidates."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import directional_curvature, directional_derivatives, row_losses
from zoodip_core.zeroth_order.measured_values import Curvature, Derivatives, Losses


def measure(
    settings: PersonalizationSettings,
    prediction: Float[Tensor, "rows c h w"],
    target: Float[Tensor, "c h w"],
    weight: Float[Tensor, "1 h w"] | None = None,
) -> Losses | Derivatives:
    """Return losses, derivatives, or derivatives with their curvature, as the settings' search requires.

    Args:
        settings: settings of the search.
        prediction: outputs of the U-Net for the candidates of the search, in their order.
        target: target that all rows share.
        weight: weights of the latent's cells in the loss; None weights all alike.
    """
    if settings.search_space != "calibrated" and settings.derivative == "residual":
        return Derivatives(directional_derivatives(prediction, target, settings.mu, weight))
    rows = None if weight is None else weight[None]
    losses = row_losses(prediction, target.expand_as(prediction), rows)
    if settings.search_space != "calibrated":
        return Losses(losses)
    derivatives = directional_derivatives(prediction, target, settings.mu, weight)
    return Curvature(derivatives, directional_curvature(prediction, settings.mu, weight), losses)
