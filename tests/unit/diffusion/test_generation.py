"""Generation equals that of diffusers' pipelines, and adds concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion import generation
from zoodip_core.diffusion.generation import ImageBatch, generate, generate_together
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidSettingsError, UnknownSchedulerError, UnknownTokenError


def _pipeline(folder: Path, family: str) -> diffusers.DiffusionPipeline:
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _difference(bundle: Bundle, settings: GenerationSettings, pipeline: Any, **options: float) -> int:
    """Return the largest difference of a pixel between our image and that of diffusers' pipeline."""
    ours = generate(bundle, settings)[0].image
    theirs = pipeline(
        settings.prompt,
        negative_prompt=settings.negative_prompt or None,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        generator=torch.Generator().manual_seed(settings.seed),
        **options,
    ).images[0]
    return int(np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max())


@pytest.mark.slow
@pytest.mark.parametrize("negative", ["", "a red house"])
def test_images_equal_those_of_diffusers(
    family: str, family_folder: dict[str, Path], bundles: dict[str, Bundle], negative: str
) -> None:
    """Without concepts and in fp32, images equal those of diffusers' pipeline for each family."""
    settings = GenerationSettings(
        prompt="a photo of a dog in the snow",
        negative_prompt=negative,
        n=2,
        steps=4,
        seed=11,
        guidance_scale=5,
    )
    ours = generate(bundles[family], settings)
    theirs = _pipeline(family_folder[family], family)(
        settings.prompt,
        negative_prompt=negative or None,
        num_images_per_prompt=2,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (11, 12)],
    ).images
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(np.asarray(a.image, int) - np.asarray(b, int)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sd2_v"])
def test_karras_schedulers_equal_those_of_diffusers(
    family: str, family_folder: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    """With Karras' noise levels, images equal those of diffusers' scheduler with `use_karras_sigmas`."""
    pipeline = _pipeline(family_folder[family], family)
    config = pipeline.scheduler.config
    for name in ("dpm++_karras", "euler_karras", "heun_karras", "unipc_karras"):
        scheduler = getattr(diffusers, SCHEDULERS[name][0])
        pipeline.scheduler = scheduler.from_config(config, use_karras_sigmas=True)
        settings = GenerationSettings(prompt="a dog", steps=3, seed=3, guidance_scale=5, scheduler=name)
        assert _difference(bundles[family], settings, pipeline) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_rescaled_guidance_equals_that_of_diffusers(
    family: str, family_folder: dict[str, Path], bundles: dict[str, Bundle]
) -> None:
    """`guidance_rescale` gives the images of diffusers' parameter of that name."""
    pipeline = _pipeline(family_folder[family], family)
    settings = GenerationSettings(
        prompt="a dog in the snow",
        negative_prompt="a red house",
        steps=2,
        seed=3,
        guidance_scale=9,
        guidance_rescale=0.7,
    )
    assert _difference(bundles[family], settings, pipeline, guidance_rescale=0.7) <= 1


def test_images_are_drawn_in_bounded_units_of_work(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each unit runs a limited number of rows or decodes one image; the images are the same, up to rounding."""
    bundle = bundles["sd1"]
    settings = GenerationSettings(prompt="a dog", n=3, steps=2, scheduler="ddim")
    whole = generate(bundle, settings)
    cells = (bundle.side_px // bundle.scale_factor) ** 2
    monkeypatch.setattr(generation, "MAX_CELLS", 4 * cells)
    sizes: list[int] = []
    predict = bundle.denoiser.predict
    monkeypatch.setattr(bundle.denoiser, "predict", lambda rows: sizes.append(len(rows)) or predict(rows))
    batch = ImageBatch(bundle, [settings])
    states = []
    while not batch.done:
        batch.advance()
        states.append((batch.step, len(sizes), len(batch.images)))
    assert sizes == [4, 2, 4, 2]  # two branches of three images
    assert states == [(0, 1, 0), (1, 2, 0), (1, 3, 0), (2, 4, 0), (2, 4, 1), (2, 4, 2), (2, 4, 3)]
    for a, b in zip(batch.images, whole, strict=True):
        assert a.seed == b.seed
        assert np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).max() <= 1


def test_one_large_image_is_drawn_row_by_row(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one row is larger than the limit, each unit of work is one row."""
    bundle, sizes = bundles["sd1"], []
    monkeypatch.setattr(generation, "MAX_CELLS", 1)
    predict = bundle.denoiser.predict
    monkeypatch.setattr(bundle.denoiser, "predict", lambda rows: sizes.append(len(rows)) or predict(rows))
    settings = GenerationSettings(prompt="a dog", steps=2, width=128, height=128, scheduler="ddim")
    generate(bundle, settings)
    assert sizes == [1, 1, 1, 1]


def test_steps_end_at_the_requested_number(bundles: dict[str, Bundle]) -> None:
    """The scheduler `pndm` takes one more timestep than steps; the reported step never exceeds the request."""
    batch = ImageBatch(bundles["sd1"], [GenerationSettings(prompt="a dog", steps=3, scheduler="pndm")])
    steps = []
    while not batch.done:
        batch.advance()
        steps.append(batch.step)
    assert steps == sorted(steps)
    assert steps[-1] == 3


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_partial_image_shows_the_first_image(bundles: dict[str, Bundle], scheduler: str) -> None:
    """After each step the estimate has the size of the image; reading it does not change the images."""
    settings = GenerationSettings(prompt="a dog", n=2, steps=4, scheduler=scheduler, height=32)
    batch = ImageBatch(bundles["sd1"], [settings])
    seen = 0
    while not batch.done:
        batch.advance()
        if batch.step > seen:
            seen = batch.step
            partial = batch.partial_image()
            assert partial is not None
            assert partial.size == (64, 32)
    whole = generate(bundles["sd1"], settings)
    assert [drawn.image for drawn in batch.images] == [drawn.image for drawn in whole]


def test_unfinished_images_leave_the_model_unchanged(bundles: dict[str, Bundle]) -> None:
    """A batch that is dropped between two steps changes nothing for the next generation."""
    settings = GenerationSettings(prompt="a dog", steps=3, scheduler="ddim")
    whole = generate(bundles["sd1"], settings)
    ImageBatch(bundles["sd1"], [settings]).advance()
    assert generate(bundles["sd1"], settings)[0].image == whole[0].image


def test_image_does_not_depend_on_its_batch(bundles: dict[str, Bundle]) -> None:
    """Image k of a batch equals the image that its seed draws alone, up to rounding."""
    both = generate(bundles["sd1"], GenerationSettings(prompt="a dog", n=2, steps=3, seed=5))
    alone = generate(bundles["sd1"], GenerationSettings(prompt="a dog", n=1, steps=3, seed=6))
    assert both[1].seed == alone[0].seed == 6
    difference = np.abs(np.asarray(both[1].image, int) - np.asarray(alone[0].image, int))
    assert difference.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guidance_scale", "scheduler"), [(1.0, None), (5.0, None), (5.0, "euler_ancestral")]
)
def test_batched_prompts_equal_separate_ones(
    family: str, bundles: dict[str, Bundle], guidance_scale: float, scheduler: str | None
) -> None:
    """Each prompt of a batch gets the images, in number and order, that it gets alone, up to rounding."""
    bundle = bundles[family]
    concepts = {"<x>": [torch.randn(1, width) for width in bundle.prompts.widths]}
    shared = {"steps": 3, "guidance_scale": guidance_scale, "negative_prompt": "a red house"}
    shared |= {"scheduler": scheduler}
    requests = [
        GenerationSettings.parse(shared | {"prompt": "a dog", "n": 2, "seed": 5}),
        GenerationSettings.parse(shared | {"prompt": "a photo of a <x> in the snow", "seed": 9}),
    ]
    together = generate_together(bundle, requests, concepts)
    for settings, drawn in zip(requests, together, strict=True):
        alone = generate(bundle, settings, concepts)
        assert [one.seed for one in drawn] == [one.seed for one in alone]
        for a, b in zip(drawn, alone, strict=True):
            assert np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).max() <= 1


def test_batched_prompts_share_their_settings(bundles: dict[str, Bundle]) -> None:
    """A different number of steps is rejected; the message has both values."""
    requests = [GenerationSettings(prompt="a dog", steps=3), GenerationSettings(prompt="a cat", steps=4)]
    with pytest.raises(
        InvalidSettingsError, match="steps: got 4; expected 3, as in the first prompt of the batch"
    ):
        generate_together(bundles["sd1"], requests)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_draws(name: str, bundles: dict[str, Bundle]) -> None:
    """Each scheduler works with an epsilon and a velocity model, and the same seed gives the same image."""
    for family in ("sd1", "sd2_v"):
        settings = GenerationSettings(prompt="a cat", steps=3, seed=1, scheduler=name)
        first, second = (generate(bundles[family], settings)[0].image for _ in range(2))
        assert np.array_equal(np.asarray(first), np.asarray(second))
        assert np.asarray(first).std() > 0


def test_unknown_scheduler_lists_the_names(bundles: dict[str, Bundle]) -> None:
    """The error for an unknown scheduler lists the allowed names."""
    with pytest.raises(UnknownSchedulerError, match="ddim"):
        generate(bundles["sd1"], GenerationSettings(prompt="a cat", scheduler="magic"))


def test_size_must_be_a_multiple_of_the_latent_cell(bundles: dict[str, Bundle]) -> None:
    """The error for a bad width names the field, the value and the cell size."""
    with pytest.raises(InvalidSettingsError, match="width: got 65; expected a multiple of 8"):
        generate(bundles["sd1"], GenerationSettings(prompt="a cat", width=65, height=64))


@pytest.mark.slow
def test_any_number_of_concepts_in_one_prompt(family: str, bundles: dict[str, Bundle]) -> None:
    """Each of two learned tokens with different numbers of vectors changes the image."""
    bundle = bundles[family]
    concepts = {
        "<one>": [torch.full((1, width), 0.5) for width in bundle.prompts.widths],
        "<two>": [torch.full((3, width), -0.5) for width in bundle.prompts.widths],
    }
    prompts = ("a <one> and a <two>", "a <one> and a dog", "a cat and a <two>")
    drawn = [generate(bundle, GenerationSettings(prompt=p, steps=2), concepts)[0].image for p in prompts]
    assert not np.array_equal(np.asarray(drawn[0]), np.asarray(drawn[1]))
    assert not np.array_equal(np.asarray(drawn[0]), np.asarray(drawn[2]))


def test_unknown_token_in_a_prompt(bundles: dict[str, Bundle]) -> None:
    """A `<name>` without a concept is an error, never plain text."""
    with pytest.raises(UnknownTokenError, match="<nobody>"):
        generate(bundles["sd1"], GenerationSettings(prompt="a <nobody>"))
