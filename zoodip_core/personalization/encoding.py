"""Encodes the reference images of a personalization: latents, tokenized captions, and weights of the loss."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.latents import encode_images
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.fair_shares import DECODE_ROWS
from zoodip_core.personalization.captions import captions_per_image
from zoodip_core.personalization.image_fit import fit_image
from zoodip_core.personalization.samples import References
from zoodip_core.personalization.subject import Subject
from zoodip_core.personalization.subject_masks import loss_weights


def encode_references(
    bundle: Bundle, subject: Subject, images: Sequence[Image.Image], settings: PersonalizationSettings
) -> References:
    """Return the training data of a valid request; the VAE is released.

    Raises:
        InvalidInputError: names the field: images or captions.
    """
    captions = captions_per_image(
        subject.captions,
        images=len(images),
        token=subject.token,
        kind=subject.kind,
        templates=bundle.templates.get(subject.kind),
    )
    vectors = {subject.token: settings.vectors}
    prompts = [[bundle.prompts.tokenize(text, vectors) for text in texts] for texts in captions]
    squares = [fit_image(image, bundle.side_px, settings.image_fit) for image in images]
    with bundle.denoiser.threads(DECODE_ROWS * bundle.cells):
        posteriors = encode_images(bundle.vae, squares)
    bundle.release_vae()
    return References(posteriors, prompts, bundle.schedule, loss_weights(images, posteriors, settings))
