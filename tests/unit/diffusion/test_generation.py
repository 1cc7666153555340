"""Generation is diffusers' own, plus concepts."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.generation import generate, generate_together
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidSettingsError, UnknownSchedulerError, UnknownTokenError


def _pipeline(folder: Path, family: str) -> diffusers.DiffusionPipeline:
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.slow
@pytest.mark.parametrize("negative", ["", "a red house"])
def test_pictures_equal_those_of_diffusers(
    family: str, family_folder: dict[str, Path], bundles: dict[str, Bundle], negative: str
) -> None:
    """Without concepts and in fp32, each family draws what diffusers' own pipeline draws."""
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


def test_drawing_can_be_stopped_before_any_step(bundles: dict[str, Bundle]) -> None:
    """The caller hears of each step before it begins, and what it raises ends the drawing; the model is as before."""
    settings = GenerationSettings(prompt="a dog", steps=3, scheduler="ddim")
    heard: list[None] = []
    whole = generate(bundles["sd1"], settings, before_step=lambda: heard.append(None))
    assert len(heard) == 3

    def stop() -> None:
        heard.pop()
        if len(heard) == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate(bundles["sd1"], settings, before_step=stop)
    assert generate(bundles["sd1"], settings)[0].image == whole[0].image


def test_image_does_not_depend_on_its_company(bundles: dict[str, Bundle]) -> None:
    """Image k of a batch is the image that its seed draws alone, up to rounding."""
    both = generate(bundles["sd1"], GenerationSettings(prompt="a dog", n=2, steps=3, seed=5))
    alone = generate(bundles["sd1"], GenerationSettings(prompt="a dog", n=1, steps=3, seed=6))
    assert both[1].seed == alone[0].seed == 6
    difference = np.abs(np.asarray(both[1].image, int) - np.asarray(alone[0].image, int))
    assert difference.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guidance_scale", "scheduler"), [(1.0, None), (5.0, None), (5.0, "euler_ancestral")]
)
def test_prompts_drawn_together_are_drawn_as_alone(
    family: str, bundles: dict[str, Bundle], guidance_scale: float, scheduler: str | None
) -> None:
    """Each prompt of a batch has the pictures, in number and order, that it has by itself, up to rounding."""
    bundle = bundles[family]
    concepts = {"<x>": [torch.randn(1, width) for width in bundle.prompts.widths]}
    shared = {"steps": 3, "guidance_scale": guidance_scale, "negative_prompt": "a red house"}
    shared |= {"scheduler": scheduler}
    asked = [
        GenerationSettings.parse(shared | {"prompt": "a dog", "n": 2, "seed": 5}),
        GenerationSettings.parse(shared | {"prompt": "a photo of a <x> in the snow", "seed": 9}),
    ]
    together = generate_together(bundle, asked, concepts)
    for settings, drawn in zip(asked, together, strict=True):
        alone = generate(bundle, settings, concepts)
        assert [one.seed for one in drawn] == [one.seed for one in alone]
        for a, b in zip(drawn, alone, strict=True):
            assert np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).max() <= 1


def test_prompts_drawn_together_share_their_settings(bundles: dict[str, Bundle]) -> None:
    """Another number of steps is refused by its name, with both values."""
    asked = [GenerationSettings(prompt="a dog", steps=3), GenerationSettings(prompt="a cat", steps=4)]
    with pytest.raises(InvalidSettingsError, match=r"steps: 4 beside 3"):
        generate_together(bundles["sd1"], asked)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_every_scheduler_draws(name: str, bundles: dict[str, Bundle]) -> None:
    """Each scheduler name works with an epsilon and a velocity model, and the same seed draws the same."""
    for family in ("sd1", "sd2_v"):
        settings = GenerationSettings(prompt="a cat", steps=3, seed=1, scheduler=name)
        first, second = (generate(bundles[family], settings)[0].image for _ in range(2))
        assert np.array_equal(np.asarray(first), np.asarray(second))
        assert np.asarray(first).std() > 0


def test_unknown_scheduler_lists_the_names(bundles: dict[str, Bundle]) -> None:
    """A wrong scheduler name is told with the allowed ones."""
    with pytest.raises(UnknownSchedulerError, match="ddim"):
        generate(bundles["sd1"], GenerationSettings(prompt="a cat", scheduler="magic"))


def test_size_must_fit_the_latents(bundles: dict[str, Bundle]) -> None:
    """A side that is no multiple of the latent's cell is an error that names it."""
    with pytest.raises(InvalidSettingsError, match="width: 65"):
        generate(bundles["sd1"], GenerationSettings(prompt="a cat", width=65, height=64))


def test_any_number_of_concepts_in_one_prompt(family: str, bundles: dict[str, Bundle]) -> None:
    """Two learned tokens of different length change the picture, each by itself."""
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
    """A `<name>` that no concept has is an error, never plain text."""
    with pytest.raises(UnknownTokenError, match="<nobody>"):
        generate(bundles["sd1"], GenerationSettings(prompt="a <nobody>"))
