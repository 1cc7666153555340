"""The search space of a personalization, by the name in its settings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.calibration_file import Calibration
from zoodip_core.config import PersonalizationSettings, SearchSpaceName
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.displacement_map import latent_statistics
from zoodip_core.errors import InvalidModelError
from zoodip_core.personalization.subject import Subject
from zoodip_core.zeroth_order.gauss_newton import GaussNewtonSearch
from zoodip_core.zeroth_order.search import TokenSearch
from zoodip_core.zeroth_order.search_space import (
    FULL,
    NOISE,
    NOISE_WITHOUT_CAPTIONS,
    CalibratedSearchSpace,
    SearchSpace,
)

SEARCHES: Mapping[SearchSpaceName, type[TokenSearch]] = {
    "full": TokenSearch,
    "calibrated": GaussNewtonSearch,
}


def make_search_space(
    bundle: Bundle,
    settings: PersonalizationSettings,
    start: Float[Tensor, " flat"],
    subject: Subject,
    references: Posteriors,
) -> SearchSpace:
    """Return the search space of these settings, with the initial token as its origin.

    Args:
        bundle: the base model, with its calibration.
        settings: settings of the search.
        start: the initial token.
        subject: its kind and its captions decide where the search can start, and captions how noisy a sample is.
        references: latents of the reference images, from which the calibration predicts the token of an object.

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
    starts = torch.stack(_starts(found, start, subject, statistics))
    noise = NOISE if subject.captions else NOISE_WITHOUT_CAPTIONS
    return CalibratedSearchSpace(start, found.basis, found.scales, found.curvature, starts, noise)


def _starts(
    calibration: Calibration,
    token: Float[Tensor, " flat"],
    subject: Subject,
    statistics: Float[Tensor, " statistics"],
) -> list[Float[Tensor, " flat"]]:
    """Return the displacements of the tokens at which a search can start, the first one first.

    An object starts at the predicted token, which is compared with the initial one if the images have captions:
    without them, the backgrounds decide the comparison. A style starts at the initial token, which is compared with
    those that the displacements of pseudo-styles lead to.
    """
    initial = torch.zeros_like(token)
    if subject.kind == "style":
        learned = calibration.style_displacements
        return [initial, *([] if learned is None else learned)]
    fitted = calibration.displacement_map
    if fitted is None:
        return [initial]
    return [fitted.predict(statistics, token), *([initial] if subject.captions else [])]
