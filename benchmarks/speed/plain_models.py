"""A base model as diffusers and transformers load it, for the procedures that this project is compared with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.engine.measure import SUBJECT
from benchmarks.quantization.contenders import CONTENDERS
from zoodip_core.base_models.families import TEXT_ENCODERS, Family, detect_family

QUANTO, OURS = "optimum-quanto qint8", "ours INT8"
"""Names in `CONTENDERS`. optimum-quanto is an optional dependency."""

TEMPLATES = ("a photo of a {}", "a picture of the {}", "a good photo of the {}", "the photo of a {}")


@dataclass
class PlainModels:
    """U-Net, VAE, text encoders and noise schedule, with a placeholder token in each vocabulary.

    Attributes:
        weights: how the weights of Linear and Conv2d are stored.
        token_ids: id of the placeholder token in each tokenizer.
    """

    family: Family
    device: torch.device
    dtype: torch.dtype
    weights: str
    unet: Any
    vae: Any
    texts: list[Any]
    tokenizers: list[Any]
    scheduler: Any
    token_ids: list[int]

    @classmethod
    def load(cls, folder: Path, *, device: str, quantizer: str | None, dtype: torch.dtype) -> PlainModels:
        """Load all parts, quantize every Linear and Conv2d if requested, and freeze them.

        Args:
            folder: pipeline folder in diffusers' layout.
            device: "cpu" or "cuda".
            quantizer: name in `CONTENDERS` of the quantization of weights; None for no quantization.
            dtype: data type of activations; SDXL's VAE has fp32.
        """
        family, place = detect_family(folder), torch.device(device)
        vae_dtype = torch.float32 if family == "sdxl" else dtype
        unet: Any = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", dtype=dtype)
        vae: Any = diffusers.AutoencoderKL.from_pretrained(folder / "vae", dtype=vae_dtype)
        texts, tokenizers, token_ids = [], [], []
        for part in TEXT_ENCODERS[family]:
            kind = transformers.CLIPTextModelWithProjection if part[-1] == "2" else transformers.CLIPTextModel
            text: Any = kind.from_pretrained(folder / part, dtype=dtype)
            tokenizer = transformers.CLIPTokenizer.from_pretrained(
                folder / part.replace("text_encoder", "tokenizer")
            )
            token_ids.append(_add_token(text, tokenizer))
            texts.append(text)
            tokenizers.append(tokenizer)
        weights = quantizer or str(dtype).removeprefix("torch.")
        for model in (unet, vae, *texts):
            if quantizer is not None:
                next(one for one in CONTENDERS if one.name == weights).apply(model)
            model.requires_grad_(False).eval().to(place)
        scheduler = diffusers.DDPMScheduler.from_pretrained(folder / "scheduler")
        unet.to(memory_format=torch.channels_last)
        vae.to(memory_format=torch.channels_last)
        return cls(family, place, dtype, weights, unet, vae, texts, tokenizers, scheduler, token_ids)

    @property
    def rows(self) -> list[Tensor]:
        """The placeholder's row of each embedding table: views, so that a change in place changes the model."""
        tables = (text.get_input_embeddings().weight.data for text in self.texts)
        return [table[token_id] for table, token_id in zip(tables, self.token_ids, strict=True)]

    @property
    def side_px(self) -> int:
        """Side of the square training images, in pixels."""
        return int(self.unet.config.sample_size) << len(self.vae.config.block_out_channels[1:])

    def noise_image(self, number: int) -> Tensor:
        """Return an image of noise of shape [1, 3, side, side] in [−1, 1]."""
        random = np.random.default_rng(number)
        pixels = random.uniform(-1, 1, (1, 3, self.side_px, self.side_px)).astype(np.float32)
        return torch.from_numpy(pixels).to(self.device)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return a sample of the latents of images, in the U-Net's scale."""
        latents = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.sample()
        scaled: Tensor = latents * self.vae.config.scaling_factor
        return scaled.to(self.dtype)

    def token_ids_of(self, prompt: str) -> list[Tensor]:
        """Return the padded ids of a prompt for each text encoder, of shape [1, tokens]."""
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return [one(prompt, **options).input_ids.to(self.device) for one in self.tokenizers]

    def loss(self, noisy: Tensor, timesteps: Tensor, target: Tensor, ids: Sequence[Tensor]) -> Tensor:
        """Return the mean squared error of the prediction, after a pass of text encoders and U-Net."""
        states, added = self._states(ids)
        predicted = self.unet(
            noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False
        )[0]
        return mse_loss(predicted.float(), target.float())

    def _states(self, ids: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return the conditioning: the last states, or SDXL's penultimate and pooled states with the size."""
        if self.family != "sdxl":
            return self.texts[0](ids[0]).last_hidden_state, None
        outputs = [text(one, output_hidden_states=True) for text, one in zip(self.texts, ids, strict=True)]
        side = self.side_px
        size = torch.tensor([[side, side, 0, 0, side, side]], dtype=self.dtype, device=self.device)
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return states, {"text_embeds": outputs[1].text_embeds, "time_ids": size}

    def noisy(self, latents: Tensor, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw noise and a timestep of [low, high); return the noisy latents, the timestep and the target."""
        noise = torch.randn_like(latents)
        timesteps = torch.randint(low, high, (len(latents),), device=self.device)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        if self.scheduler.config.prediction_type == "v_prediction":
            return noisy, timesteps, self.scheduler.get_velocity(latents, noise, timesteps)
        return noisy, timesteps, noise

    def watch(self, on_pass: Callable[[int], None]) -> None:
        """Call a function with the number of rows of each pass of the U-Net."""
        self.unet.register_forward_pre_hook(lambda _, inputs, __: on_pass(len(inputs[0])), with_kwargs=True)

    def compile(self) -> None:
        """Compile U-Net, VAE encoder and text encoders, as the published script does."""
        for model in (self.unet, self.vae.encoder, *self.texts):
            model.compile()


def published_quantizer() -> str:
    """Return the published script's optimum-quanto if it is installed, else this project's INT8."""
    return QUANTO if importlib.util.find_spec("optimum") is not None else OURS


def _add_token(text: nn.Module, tokenizer: Any) -> int:
    """Add the placeholder to the vocabulary with the initializer's embedding; return its id."""
    tokenizer.add_tokens(SUBJECT.token)
    model: Any = text
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    token_id = int(tokenizer.convert_tokens_to_ids(SUBJECT.token))
    table = model.get_input_embeddings().weight.data
    initial = tokenizer(SUBJECT.initializer, add_special_tokens=False).input_ids[0]
    table[token_id] = table[initial]
    return token_id
