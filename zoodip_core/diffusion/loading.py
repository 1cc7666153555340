"""A pipeline folder or hub id → a frozen, quantized bundle on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from jaxtyping import Float
from torch import Tensor, nn

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.families import Family, detect_family, read_config
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import ConceptKind, Precision
from zoodip_core.diffusion.denoising import Denoiser, NoiseSchedule
from zoodip_core.diffusion.device import choose_device, compute_dtype
from zoodip_core.diffusion.prompts import PromptEncoder, TextEncoder
from zoodip_core.diffusion.schedulers import noise_schedule
from zoodip_core.diffusion.weights import load_quantized
from zoodip_core.errors import InvalidModelError

HUB_FILES = (
    "model_index.json",
    *(f"{part}/*.json" for part in ("unet", "vae", "scheduler", "text_encoder*", "tokenizer*")),
    *(f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder*")),
    "tokenizer*/*.txt",
)
HUB_LEFT = ("*.fp16.*", "*non_ema*", "*flax*", "*openvino*", "*onnx*")
"""What is loaded from a hub id, and what of it is left there: second copies of the same weights."""


@dataclass
class Bundle:
    """A frozen base model: everything that searches and generations share.

    Only the VAE comes and goes: it is loaded when first asked for, and `release_vae` lets it go.
    """

    name: str
    family: Family
    folder: Path
    fingerprint: str
    precision: Precision
    device: torch.device
    dtype: torch.dtype
    prompts: PromptEncoder
    denoiser: Denoiser
    schedule: NoiseSchedule
    scale_factor: int  # pixels along one side of a latent's cell
    zero_empty_prompt: bool
    templates: Mapping[ConceptKind, Sequence[str]] = field(default_factory=dict)
    _vae: nn.Module | None = None

    @property
    def vae(self) -> Any:
        """The autoencoder, loaded on first use."""
        if self._vae is None:
            self._vae = _load_vae(self.folder, self.precision, self.device, self.dtype)
        return self._vae

    def release_vae(self) -> None:
        """Let the autoencoder leave memory: the search works on cached latents."""
        self._vae = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def modules(self) -> list[nn.Module]:
        """All networks that are in memory now."""
        loaded = [self.denoiser.unet, *(encoder.model for encoder in self.prompts.encoders)]
        return loaded if self._vae is None else [*loaded, self._vae]

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.denoiser.unet.config.in_channels)

    @property
    def side_px(self) -> int:
        """Side of the square images that the model was trained on."""
        return int(self.denoiser.unet.config.sample_size) * self.scale_factor

    def time_ids(self, side: tuple[int, int]) -> Float[Tensor, "1 6"] | None:
        """SDXL's size conditioning (original size, crop corner, target size); None for the other families."""
        if self.family != "sdxl":
            return None
        return torch.tensor([[*side, 0, 0, *side]], dtype=torch.float32, device=self.device)


def load_bundle(entry: BaseModelEntry, *, device: str | None = None, max_rows: int | None = None) -> Bundle:
    """Load a base model of the catalog; every weight is quantized as it is read.

    Args:
        entry: where it is and in which precision it is held.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        max_rows: most rows of one U-Net forward; None for no limit.

    Raises:
        InvalidModelError: the folder is incomplete, of an unsupported or another kind, or holds no safetensors.
    """
    place = choose_device(device)
    folder = locate(entry)
    family = detect_family(folder)
    if entry.family not in (None, family):
        message = (
            f"base model {entry.name}: {folder} is of the family {family}; the catalog says {entry.family}"
        )
        raise InvalidModelError(message, field="base_model")
    dtype = compute_dtype(place, entry.precision)
    index = read_config(folder, "model_index.json")
    unet = _load_unet(folder, entry.precision, place, dtype)
    encoders = _load_encoders(folder, family, entry.precision, place, dtype)
    return Bundle(
        name=entry.name,
        family=family,
        folder=folder,
        fingerprint=fingerprint(folder),
        precision=entry.precision,
        device=place,
        dtype=dtype,
        prompts=PromptEncoder(encoders),
        denoiser=Denoiser(unet, dtype=dtype, max_rows=max_rows),
        schedule=noise_schedule(folder / "scheduler"),
        scale_factor=2 ** (len(read_config(folder, "vae/config.json")["block_out_channels"]) - 1),
        zero_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", False)),
        templates=entry.templates,
    )


def locate(entry: BaseModelEntry) -> Path:
    """The folder of a base model; a hub id is downloaded once (configs, tokenizers and safetensors only).

    Raises:
        InvalidModelError: the hub has no such model, or cannot be reached and it is not on disk yet.
    """
    if entry.hub_id is None:
        assert entry.path is not None, "the catalog lets no entry pass without a place"
        return entry.path
    try:
        return Path(snapshot_download(entry.hub_id, allow_patterns=[*HUB_FILES], ignore_patterns=[*HUB_LEFT]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InvalidModelError(
            f"base model {entry.name}: {entry.hub_id} cannot be had from the hub: {error}", field="base_model"
        ) from error


def _load_unet(folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(
            diffusers.UNet2DConditionModel.load_config(folder / "unet")
        )
    return load_quantized(
        unet,
        weight_files(folder / "unet"),
        precision=precision,
        device=device,
        dtype=dtype,
        channels_last=True,
    )


def _load_vae(folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL.from_config(diffusers.AutoencoderKL.load_config(folder / "vae"))
    if vae.config.force_upcast:
        dtype = torch.float32  # SDXL's VAE overflows in fp16
    return load_quantized(vae, weight_files(folder / "vae"), precision=precision, device=device, dtype=dtype)


def _load_encoders(
    folder: Path, family: Family, precision: Precision, device: torch.device, dtype: torch.dtype
) -> list[TextEncoder]:
    suffixes = ("", "_2") if family == "sdxl" else ("",)
    encoders = []
    for suffix in suffixes:
        projected = suffix == "_2"
        kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
        part = f"text_encoder{suffix}"
        config = transformers.CLIPTextConfig.from_pretrained(folder / part, attn_implementation="sdpa")
        with torch.device("meta"):
            model = kind._from_config(config)
        model = load_quantized(
            model, weight_files(folder / part), precision=precision, device=device, dtype=dtype
        )
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        encoders.append(TextEncoder(tokenizer, model, penultimate=family == "sdxl", projected=projected))
    return encoders
