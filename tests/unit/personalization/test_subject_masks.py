"""`masked_loss`: weights from the opacity of the images, in the search and in the validation loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.tooling.pictures import file_of
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.latents import Posteriors
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import InvalidImageError
from zoodip_core.images import decode_image_file
from zoodip_core.personalization.concept_conversion import to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run_facts import RunFacts
from zoodip_core.personalization.subject import Subject
from zoodip_core.personalization.subject_masks import loss_weights

TURTLE = Subject("<x>", "turtle")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Return the embedded model."""
    return load_bundle(Catalog.load().get("emoji"), device="cpu")


def _settings(**values: Any) -> PersonalizationSettings:
    quick = {"steps": 3, "n": 2, "fixed_rows": 3, "subspace": "none", "t_low": 100, "t_high": 900}
    return PersonalizationSettings.parse({**quick, "masked_loss": True, **values})


def _photo(hidden: int = 0, *, level: int = 255) -> Image.Image:
    """Return a decoded photo whose left half is fully transparent.

    Args:
        hidden: level of the colors under the transparent half in the file.
        level: opacity of the right half.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    pixels[..., 3] = level
    pixels[:, :32] = (hidden, hidden, hidden, 0)
    return decode_image_file(file_of(Image.fromarray(pixels)), name="a")[0]


def _searched(bundle: Bundle, *images: Image.Image, **values: Any) -> Personalization:
    search = Personalization.begin(bundle, TURTLE, images, _settings(**values))
    while not search.done:
        assert Engine(bundle).step([search]) == [None]
    return search


def _weights(*images: Image.Image, side: int = 8, **values: Any) -> Tensor | None:
    latents = torch.zeros(len(images), 2, 4, side, side)
    return loss_weights(images, Posteriors(latents, latents), _settings(**values))


def test_weights_are_area_means_with_a_mean_of_one() -> None:
    """A cell that is half covered weighs half; photos without alpha weigh one."""
    image = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    image.paste((9, 9, 9, 0), (0, 0, 20, 64))  # two and a half of eight columns
    found = _weights(image, Image.new("RGB", (80, 64)))
    assert found is not None
    assert found.shape == (2, 1, 8, 8)
    row = torch.tensor([0.0, 0.0, 0.5, 1, 1, 1, 1, 1])
    torch.testing.assert_close(found[0, 0], (row / row.mean()).expand(8, 8))
    assert torch.equal(found[1], torch.ones(1, 8, 8))


def test_the_mask_follows_crop_and_squash() -> None:
    """A crop leaves the transparent borders out, so nothing is masked; a squash keeps them."""
    image = Image.new("RGBA", (128, 64), (9, 9, 9, 0))
    image.paste((9, 9, 9, 255), (32, 0, 96, 64))
    assert _weights(image) is None
    found = _weights(image, image_fit="squash")
    assert found is not None
    assert found[0, 0, 0].tolist() == [0, 0, 2, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("level", [1, 77, 255])
def test_a_uniform_mask_weighs_nothing(level: int) -> None:
    """The same opacity everywhere is no mask, whatever it is and whatever the size of the latents."""
    assert _weights(Image.new("RGBA", (67, 51), (9, 9, 9, level)), side=7) is None


def test_a_tiny_subject_does_not_vanish() -> None:
    """One barely visible pixel of a million gets all the weight, without a division by zero."""
    image = Image.new("RGBA", (1024, 1024), (9, 9, 9, 0))
    image.putpixel((100, 1000), (9, 9, 9, 1))
    found = _weights(image)
    assert found is not None
    assert found[0, 0, 7, 0] == 64
    assert found.sum() == 64


def test_an_invisible_subject_is_an_error() -> None:
    """A subject that the crop leaves out is invisible, too; the message names the image."""
    image = Image.new("RGBA", (128, 64), (9, 9, 9, 0))
    image.paste((9, 9, 9, 255), (0, 0, 20, 64))
    with pytest.raises(InvalidImageError, match=r"images: got 'image 2' \(fully transparent in the part"):
        _weights(Image.new("RGB", (64, 64)), image)
    assert _weights(image, masked_loss=False) is None


@pytest.mark.parametrize(
    "values", [{"derivative": "loss_difference"}, {"derivative": "residual"}, {"search_space": "calibrated"}]
)
def test_what_the_model_predicts_outside_the_mask_does_not_matter(
    bundle: Bundle, values: dict[str, Any]
) -> None:
    """Other predictions outside the mask give the same losses and the same token, bit for bit; inside they do not."""
    found = []
    for left, right in ((0.0, 0.0), (5.0, 0.0), (0.0, 5.0)):
        search = Personalization.begin(bundle, TURTLE, [_photo()], _settings(**values, flip=False))
        (predicted,) = Engine(bundle).evaluate([search.build_request()])
        half = predicted.shape[-1] // 2
        noise = torch.randn(predicted.shape, generator=torch.Generator().manual_seed(0))
        predicted[..., :half] += left * noise[..., :half]
        predicted[..., half:] += right * noise[..., half:]
        search.apply_predictions(predicted)
        measurement = search.begin_measurement()
        while not measurement.done:
            (measured,) = Engine(bundle).evaluate([measurement.build_request()])
            measured[..., :half] += left
            measurement.apply_predictions(measured)
        found.append((search.search.theta, measurement.loss()))
    (theta, loss), (outside, loss_outside), (inside, _) = found
    assert torch.equal(theta, outside)
    assert loss == loss_outside
    assert not torch.equal(theta, inside)


def test_hidden_colors_do_not_matter(bundle: Bundle) -> None:
    """Colors under transparent pixels of the file change no loss; the mask does."""
    masked = [_searched(bundle, _photo(hidden)) for hidden in (0, 255)]
    assert masked[0].fixed_losses == masked[1].fixed_losses
    assert torch.equal(masked[0].search.theta, masked[1].search.theta)
    plain = _searched(bundle, _photo(), masked_loss=False)
    assert plain.fixed_losses != masked[0].fixed_losses
    assert not torch.equal(plain.search.theta, masked[0].search.theta)


def test_photos_without_alpha_give_the_same_bits(bundle: Bundle) -> None:
    """The setting changes nothing without alpha, and alpha changes nothing without the setting."""
    colors = _photo().convert("RGB")
    cases = [(colors, True), (colors, False), (_photo(), False)]
    results = [_searched(bundle, image, masked_loss=masked) for image, masked in cases]
    assert results[0].fixed_losses == results[1].fixed_losses == results[2].fixed_losses
    assert torch.equal(results[0].search.theta, results[1].search.theta)
    assert torch.equal(results[1].search.theta, results[2].search.theta)


def test_mirrored_images_have_mirrored_masks(bundle: Bundle) -> None:
    """The weights of a mirrored sample are those of the image from right to left."""
    references = Personalization.begin(bundle, TURTLE, [_photo()], _settings()).references
    upright, mirrored = (
        references.draw(0, flipped=flipped, timestep=500, seed=0).weight for flipped in (False, True)
    )
    assert upright is not None
    assert mirrored is not None
    assert upright[0, 0, 0] == 0 < upright[0, 0, -1]
    assert torch.equal(mirrored, upright.flip(-1))


def test_masks_of_jobs_in_one_forward_stay_apart(bundle: Bundle) -> None:
    """A masked and an unmasked search in one forward pass learn what they learn alone, up to 2 % of their step."""
    jobs = [
        Personalization.begin(bundle, TURTLE, [_photo()], _settings(masked_loss=m)) for m in (True, False)
    ]
    assert Engine(bundle).step(jobs) == [None, None]
    masked, unmasked = (job.search.theta for job in jobs)
    for job in jobs:
        alone = Personalization.begin(bundle, TURTLE, [_photo()], job.settings)
        start = alone.search.theta
        assert Engine(bundle).step([alone]) == [None]
        assert (job.search.theta - alone.search.theta).norm() < 0.02 * (alone.search.theta - start).norm()
    assert (masked - unmasked).norm() > 0.1 * (masked - start).norm()


def test_the_setting_decides_the_bits_of_a_run(bundle: Bundle) -> None:
    """A run with another value does not resume; a checkpoint of an earlier version, which lacks it, does."""
    on, off = (RunFacts.of(bundle, TURTLE, [_photo()], _settings(masked_loss=m)) for m in (True, False))
    assert on.differences(off, completed=1) == ["masked_loss: got True; the checkpoint has False"]
    concept = to_concept(Personalization.begin(bundle, TURTLE, [_photo()], _settings()), 0.5)
    assert concept.provenance is not None
    assert concept.provenance.settings["masked_loss"] is True
    assert on.describes(concept)
    assert not off.describes(concept)
    earlier = PersonalizationSettings.parse(off.settings.model_dump(exclude={"masked_loss"}))
    assert not earlier.masked_loss
