"""The search space of a personalization, by the name in its settings."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration_file import Calibration
from zoodip_core.config import ConceptKind, PersonalizationSettings, SearchSpaceName
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.displacement_map import latent_statistics
from zoodip_core.errors import InvalidModelError
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.search import TokenSearch
from zoodip_core.zeroth_order.search_space import FULL, CalibratedSearchSpace, SearchSpace

SEARCHES: Mapping[SearchSpaceName, type[TokenSearch]] = {
    "full": TokenSearch,
    "calibrated": GaussNewtonSearch,
}


def make_search_space(
    bundle: Bundle,
    settings: PersonalizationSettings,
    start: Float[Tensor, " flat"],
    kind: ConceptKind,
    references: Posteriors,
) -> SearchSpace:
    """Return the search space of these settings, with the initial token as its origin.

    Args:
        bundle: the base model, with its calibration.
        settings: settings of the search.
        start: the initial token.
        kind: the search for a style starts at the initial token, that for an object at the predicted one.
        references: latents of the reference images, from which the calibration predicts the token.

    Raises:
        InvalidModelError: the calibration of the base model is missing, damaged or of another model.
    """
    if settings.search_space == "full":
        return FULL
    if bundle.calibration is None:
        raise InvalidModelError.mismatch("calibration", got="none", expected="a file of `zoodip calibrate`")
    statistics = latent_statistics(references.mean[:, 0])
    found = Calibration.load(
        bundle.calibration,
        weights_fingerprint=bundle.weights_fingerprint,
        dimensions=len(start),
        statistics=len(statistics),
    )
    fitted = found.displacement_map if kind == "object" else None
    predicted = None if fitted is None else fitted.predict(statistics, start)
    return CalibratedSearchSpace(start, found.basis, found.scales, found.curvature, predicted)
