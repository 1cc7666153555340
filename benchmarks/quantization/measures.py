"""Measures of a quantized model: weights, validation loss, smoothness in θ, speed."""

from __future__ import annotations

import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.quantization.contenders import dense_weight
from zoodip_core.diffusion.latents import encode_images
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import PromptEncoder
from zoodip_core.diffusion.text_encoder import TextEncoder
from zoodip_core.engine import Request
from zoodip_core.images import fit_square
from zoodip_core.personalization.captions import captions_per_image
from zoodip_core.personalization.samples import References, Sample, candidates_request, samples_request

DEMO = Path(__file__).parents[2] / "zoodip_core" / "assets" / "demo"
TOKEN = "<it>"  # noqa: S105
MU = 1e-3


@dataclass(frozen=True)
class Models:
    """A U-Net and a text encoder, quantized with the same method."""

    unet: nn.Module
    text: nn.Module
    dtype: torch.dtype

    def dense(self, plain: Models) -> Models:
        """Return the same weights in the fp64 layers of `plain`, whose loss has no rounding."""
        unet, text = _dense(self.unet, plain.unet), _dense(self.text, plain.text)
        return Models(unet, text, torch.float64)


class Probe:
    """Losses of Eq. (1) on the demo's reference images."""

    def __init__(self, bundle: Bundle, *, fixed_rows: int, slopes: int, rows: int) -> None:
        self.bundle = bundle
        demo = json.loads((DEMO / "demo.json").read_text())
        images = [Image.open(path).convert("RGB") for path in sorted(DEMO.glob("reference-*.png"))]
        texts = captions_per_image(
            tuple(caption.format(TOKEN) for caption in demo["captions"][: len(images)]),
            images=len(images),
            token=TOKEN,
            kind="object",
            templates=None,
        )
        prompts = [[bundle.prompts.tokenize(text, {TOKEN: 1}) for text in group] for group in texts]
        posteriors = encode_images(bundle.vae, [fit_square(image, bundle.side_px) for image in images])
        references = References(posteriors, prompts, bundle.schedule)
        [encoder] = bundle.prompts.encoders
        [word] = encoder.tokenizer(demo["initializer"], add_special_tokens=False).input_ids
        self.theta = encoder.table[word].float()
        self.fixed = references.validation_set(fixed_rows)
        self.fixed_request = samples_request(bundle.prompts, self.fixed, TOKEN, self.theta, 1)
        pairs = [self._pair(references, seed) for seed in range(slopes)]
        self.pair_targets = torch.stack([sample.target for sample, _ in pairs])
        self.pairs_request = _joined([request for _, request in pairs])
        step = self.theta + MU * torch.randn(
            rows, len(self.theta), generator=torch.Generator().manual_seed(0)
        )
        self.step_request = candidates_request(bundle.prompts, self.fixed[0], TOKEN, step, 1)

    def _pair(self, references: References, seed: int) -> tuple[Sample, Request]:
        """Return a sample at a timestep of Eq. (9), and its request at θ and θ + μe near a vocabulary word."""
        generator = torch.Generator().manual_seed(seed)
        [encoder] = self.bundle.prompts.encoders
        word = int(torch.randint(len(encoder.table) // 2, len(encoder.table) - 2, (), generator=generator))
        timestep = int(torch.randint(500, 900, (), generator=generator))
        theta = encoder.table[word].float() + 0.01 * torch.randn(len(self.theta), generator=generator)
        direction = torch.randn(len(theta), generator=generator)
        sample = references.draw(
            seed % len(references.posteriors), flipped=False, timestep=timestep, seed=seed
        )
        both = torch.stack((theta, theta + MU * direction))
        return sample, candidates_request(self.bundle.prompts, sample, TOKEN, both, 1)

    @torch.no_grad()
    def predict(self, models: Models, request: Request) -> Tensor:
        """Return the U-Net's output as fp64, computed in the dtype of the models."""
        [encoder] = self.bundle.prompts.encoders
        text = TextEncoder(encoder.tokenizer, models.text, penultimate=False, projected=False)
        embedded = [rows.to(models.dtype) for rows in request.embedded]
        states = PromptEncoder([text]).encode(embedded, request.prompts).states
        noisy = request.noisy.to(models.dtype, memory_format=torch.channels_last)
        unet: Any = models.unet
        output: Tensor = unet(noisy, request.timesteps, states.to(models.dtype), return_dict=False)[0]
        return output.double()

    def fixed_loss(self, models: Models) -> float:
        """Return the validation loss of the initializer."""
        target = torch.stack([sample.target for sample in self.fixed]).double()
        return float((self.predict(models, self.fixed_request) - target).square().mean())

    def slopes(self, models: Models) -> Tensor:
        """Return one finite difference of Eq. (3) for each pair."""
        outputs = self.predict(models, self.pairs_request)
        outputs = outputs.view(-1, 2, *outputs.shape[1:])
        losses: Tensor = (outputs - self.pair_targets[:, None].double()).square().flatten(2).mean(2)
        return (losses[:, 1] - losses[:, 0]) / MU


def _joined(requests: Sequence[Request]) -> Request:
    """Merge the rows of all requests."""
    return Request(
        torch.cat([request.noisy for request in requests]),
        torch.cat([request.timesteps for request in requests]),
        [prompt for request in requests for prompt in request.prompts],
        [torch.cat(column) for column in zip(*(request.embedded for request in requests), strict=True)],
    )


def slope_error(probe: Probe, models: Models, plain: Models) -> float:
    """Return the relative error of finite differences, compared with the same weights in fp64."""
    exact = probe.slopes(models.dense(plain))
    error: Tensor = (probe.slopes(models) - exact).norm() / exact.norm()
    return float(error)


def weight_error(models: Models, exact: Models) -> float:
    """Return the relative error of all weights of Linear and Conv2d."""
    wrong = total = 0.0
    for given, true in ((models.unet, exact.unet), (models.text, exact.text)):
        layers = dict(given.named_modules())
        for name, layer in true.named_modules():
            weight = dense_weight(layer)
            if weight is not None:
                wrong += float((_dense_of(layers[name]) - weight.double()).square().sum())
                total += float(weight.double().square().sum())
    return math.sqrt(wrong / total)


def speeds(works: Sequence[Callable[[], object]], *, rounds: int) -> list[float]:
    """Return the speed of each relative to the first: the median over rounds that run all of them.

    Anything more than ten times slower than the first is timed in the first two rounds only.
    """
    ratios: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        first = 0.0
        for work, found in zip(works, ratios, strict=True):
            if number > 1 and found[-1] < 0.1:
                continue
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
            first = first or seconds
            found.append(first / seconds)
    return [statistics.median(found[1:]) for found in ratios]  # the first round warms up


def _dense_of(layer: nn.Module) -> Tensor:
    weight = dense_weight(layer)
    assert weight is not None, "a contender must keep Linear and Conv2d in place"
    return weight.double()


def _dense(model: nn.Module, plain: nn.Module) -> nn.Module:
    """Return a copy of `plain` in fp64 with the model's weights."""
    dense = copy.deepcopy(plain).double()
    given = dict(model.named_modules())
    for name, layer in dense.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.weight.copy_(_dense_of(given[name]))
    return dense
