"""Loading of base models: from a pipeline folder or hub id to a frozen, quantized bundle on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.custom_vae import check_custom_vae
from zoodip_core.base_models.families import Family, detect_family, read_config
from zoodip_core.base_models.fingerprint import fingerprint, weights_fingerprint
from zoodip_core.base_models.footprint import keeps_dequantized
from zoodip_core.base_models.image_size import latent_cell_px
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.base_models.safety_checker import ships_safety_checker
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import ConceptKind, PartPrecisions, Precision
from zoodip_core.diffusion.compiled import COMPILER_CACHE, use_compiler_cache
from zoodip_core.diffusion.denoising import Denoiser, NoiseSchedule
from zoodip_core.diffusion.dequantized import dequantized_budget_mb, keep_dequantized
from zoodip_core.diffusion.device import choose_device, compute_dtype, empty_cache, to_device
from zoodip_core.diffusion.empty_networks import empty_network, empty_vae
from zoodip_core.diffusion.memory import typed_out_of_memory
from zoodip_core.diffusion.prompts import PromptEncoder
from zoodip_core.diffusion.safety import SafetyChecker
from zoodip_core.diffusion.schedulers import noise_schedule
from zoodip_core.diffusion.state_cache import StateCache
from zoodip_core.diffusion.text_encoder import TextEncoder
from zoodip_core.diffusion.weights import load_quantized
from zoodip_core.errors import InvalidModelError


@dataclass
class Bundle:
    """A frozen base model in memory; searches and generations share it.

    The VAE is loaded on first use, and `release_vae` frees it.

    Attributes:
        name: name in the catalog.
        family: `sd1`, `sd2` or `sdxl`.
        folder: pipeline folder.
        fingerprint: SHA-256 that identifies the files.
        weights_fingerprint: SHA-256 that identifies the weights in any file layout and half precision.
        precisions: how the weights of each part are stored.
        device: device of all networks.
        dtype: compute dtype of the U-Net.
        prompts: tokenizers and text encoders.
        denoiser: the U-Net.
        schedule: noise schedule of the U-Net's training.
        scale_factor: pixels along one side of a latent cell.
        zero_empty_prompt: whether an empty negative prompt is encoded as zeros.
        templates: captions of the base model for each concept kind.
        safety_checker: flags images to withhold; None if it is off, or the base model ships none.
        custom_vae: folder of a VAE that replaces the pipeline's.
        calibration: path of the calibration file; the file may be missing.
        text_states: text-encoder states of the prompts of recent generations.
    """

    name: str
    family: Family
    folder: Path
    fingerprint: str
    weights_fingerprint: str
    precisions: PartPrecisions
    device: torch.device
    dtype: torch.dtype
    prompts: PromptEncoder
    denoiser: Denoiser
    schedule: NoiseSchedule
    scale_factor: int
    zero_empty_prompt: bool
    templates: Mapping[ConceptKind, Sequence[str]] = field(default_factory=dict)
    safety_checker: SafetyChecker | None = None
    custom_vae: Path | None = None
    calibration: Path | None = None
    text_states: StateCache = field(default_factory=StateCache)
    _vae: nn.Module | None = None

    @property
    def precision(self) -> str:
        """How the weights are stored, in one word where all parts follow from it."""
        return str(self.precisions)

    @property
    def vae(self) -> Any:
        """The VAE, loaded on first use."""
        if self._vae is None:
            folder = self.custom_vae or self.folder / "vae"
            self._vae = _load_vae(folder, self.family, self.precisions.vae, self.device)
        return self._vae

    def release_vae(self) -> None:
        """Free the VAE. A search needs only cached latents."""
        self._vae = None
        empty_cache(self.device)

    @property
    def modules(self) -> list[nn.Module]:
        """All networks that are currently loaded."""
        checker = None if self.safety_checker is None else self.safety_checker.model
        loaded = [
            self.denoiser.unet,
            *(encoder.model for encoder in self.prompts.encoders),
            self._vae,
            checker,
        ]
        return [module for module in loaded if module is not None]

    @property
    def graph_bytes(self) -> int:
        """Memory of the CUDA graphs of compiled networks."""
        networks = [self.denoiser.compiled, *(encoder.compiled for encoder in self.prompts.encoders)]
        return sum(network.graph_bytes for network in networks if network is not None)

    @property
    def latent_channels(self) -> int:
        """Number of channels of a latent."""
        return int(self.denoiser.unet.config.in_channels)

    @property
    def side_px(self) -> int:
        """Side of the square training images, in pixels."""
        return int(self.denoiser.unet.config.sample_size) * self.scale_factor

    @property
    def cells(self) -> int:
        """Latent cells of a training image."""
        return int(self.denoiser.unet.config.sample_size) ** 2

    def time_ids(self, side: tuple[int, int]) -> Float[Tensor, "1 6"] | None:
        """Return SDXL's size conditioning (original size, crop corner, target size), or None for other families.

        Args:
            side: height and width in pixels.
        """
        if self.family != "sdxl":
            return None
        return to_device(torch.tensor([[*side, 0, 0, *side]], dtype=torch.float32), self.device)


@typed_out_of_memory("Loading the base model")
def load_bundle(
    entry: BaseModelEntry,
    *,
    device: str | None = None,
    max_rows: int | None = None,
    safety_checker: bool = False,
    dequantized_mb: int | None = 0,
    compiled: bool = False,
) -> Bundle:
    """Load a base model of the catalog, quantizing each weight as it is read.

    Args:
        entry: location and precision of the base model.
        device: a device that torch finds, such as "cpu", "cuda", "cuda:1" or "mps"; None uses CUDA if available.
        max_rows: most rows of one U-Net forward pass; None for no limit.
        safety_checker: whether to load the safety checker, if the base model ships one.
        dequantized_mb: budget in 10⁶ bytes for U-Net and text encoders in fp32. If it covers them, their weights are
            dequantized once instead of in each pass. The results have the same bits. None: 64 on a CPU, else 0.
        compiled: whether to compile U-Net and text encoders in the background (`CompiledNetwork`).

    Raises:
        InvalidInputError: torch finds no such device.
        InvalidModelError: the folder is incomplete, has no safetensors, or is of an unsupported or unexpected family.
        OutOfMemoryError: the model does not fit.
    """
    chosen_device = choose_device(device)
    folder = find_model_folder(entry, safety_checker=safety_checker)
    family = detect_family(folder)
    if entry.family not in (None, family):
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{entry.name} in {folder} of the family {family}",
            expected=f"the family {entry.family}, as in the catalog",
        )
    if entry.vae is not None:
        check_custom_vae(entry.vae, folder)
    precisions = entry.precisions
    if "fp32" in (precisions.unet, precisions.text_encoder, precisions.vae):
        _disable_tf32()
    if compiled:
        use_compiler_cache(COMPILER_CACHE)
    dtype = compute_dtype(chosen_device, precisions.unet)
    index = read_config(folder, "model_index.json")
    unet = _load_unet(folder, precisions.unet, chosen_device, dtype)
    encoders = _load_encoders(folder, family, precisions.text_encoder, chosen_device)
    if keeps_dequantized(folder, precisions, dequantized_budget_mb(dequantized_mb, chosen_device)):
        keep_dequantized([unet, *(encoder.model for encoder in encoders)], packed=not compiled)
    if compiled:
        encoders = [encoder.with_programs() for encoder in encoders]
    return Bundle(
        name=entry.name,
        family=family,
        folder=folder,
        fingerprint=fingerprint(folder),
        weights_fingerprint=weights_fingerprint(folder),
        precisions=precisions,
        device=chosen_device,
        dtype=dtype,
        prompts=PromptEncoder(encoders),
        denoiser=Denoiser(
            unet, dtype=dtype, max_rows=max_rows, compiled_tokens=encoders[0].tokens if compiled else None
        ),
        schedule=noise_schedule(folder / "scheduler"),
        scale_factor=latent_cell_px(folder),
        zero_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", family == "sdxl")),
        templates=entry.templates,
        safety_checker=_load_safety_checker(folder, chosen_device) if safety_checker else None,
        custom_vae=entry.vae,
        calibration=entry.calibration,
    )


def _load_safety_checker(folder: Path, device: torch.device) -> SafetyChecker | None:
    return SafetyChecker(folder, device) if ships_safety_checker(folder) else None


def _disable_tf32() -> None:
    """Make fp32 on CUDA mean fp32, for the whole process. TF32 has a mantissa of 10 bits, as fp16 has.

    torch enables TF32 for convolutions by default.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _load_unet(folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype) -> nn.Module:
    return load_quantized(
        empty_network(folder, "unet"),
        weight_files(folder / "unet"),
        precision=precision,
        device=device,
        dtype=dtype,
        channels_last=True,
    )


@typed_out_of_memory("Loading the VAE")
def _load_vae(folder: Path, family: Family, precision: Precision, device: torch.device) -> nn.Module:
    """Load the VAE; in fp32 if its configuration asks for it, or if SDXL's is silent about it.

    SDXL's VAE overflows in fp16. diffusers takes a missing `force_upcast` as true for every family.
    """
    upcast = read_config(folder, "config.json").get("force_upcast", family == "sdxl")
    dtype = torch.float32 if upcast else compute_dtype(device, precision)
    files = weight_files(folder, "vae")
    return load_quantized(empty_vae(folder), files, precision=precision, device=device, dtype=dtype)


def _load_encoders(
    folder: Path, family: Family, precision: Precision, device: torch.device
) -> list[TextEncoder]:
    """Load the text encoders. They compute in fp32 at every precision; only the vocabulary can be stored in 16 bits.

    Rounding to fp16 would destroy the difference μe of two candidates whose values have grown. SD1.5's text encoder
    has 1.6 % of a step's operations (figures: docs/explanation/quantization.md).
    """
    suffixes = ("", "_2") if family == "sdxl" else ("",)
    encoders = []
    for suffix in suffixes:
        part, projected = f"text_encoder{suffix}", suffix == "_2"
        model = load_quantized(
            empty_network(folder, part),
            weight_files(folder / part),
            precision=precision,
            device=device,
            dtype=torch.float32,
        )
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        encoder = TextEncoder(tokenizer, model, penultimate=family == "sdxl", projected=projected)
        encoder.body.embeddings.token_embedding.to(compute_dtype(device, precision))
        encoders.append(encoder)
    return encoders
