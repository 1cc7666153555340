"""Checks the weights of a pipeline folder without loading the model."""

from __future__ import annotations

from pathlib import Path

from zoodip_core.base_models.custom_vae import check_custom_vae
from zoodip_core.base_models.families import detect_family, network_parts
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.diffusion.empty_networks import empty_network, empty_vae
from zoodip_core.diffusion.schedulers import noise_schedule
from zoodip_core.diffusion.weights import check_names, check_values
from zoodip_core.errors import InvalidModelError


def check_weights(folder: Path, vae: Path | None = None) -> None:
    """Validate that the weights of every network match its configuration: names, shapes and kinds of data types.

    Reads headers only.

    Args:
        folder: pipeline folder.
        vae: folder of a VAE that replaces the pipeline's; its latents must be those of the pipeline.

    Raises:
        InvalidModelError: a file is missing or damaged, or a tensor is missing, unexpected or of another shape.
    """
    noise_schedule(folder / "scheduler")
    for part in network_parts(detect_family(folder)):
        check_names(empty_network(folder, part), weight_files(folder / part))
    if vae is None:
        return
    try:
        check_custom_vae(vae, folder)
        check_names(empty_vae(vae), weight_files(vae, "vae"))
    except InvalidModelError as error:
        message = error.message.removeprefix("base_model: ").removeprefix("vae: ")
        raise InvalidModelError(f"vae: {message}", field="vae") from error


def check_all_weights(folder: Path, vae: Path | None = None) -> None:
    """Validate as `check_weights`, and read every weight; one tensor at a time is in memory.

    Raises:
        InvalidModelError: as `check_weights`, or a weight is NaN or infinite.
    """
    check_weights(folder, vae)
    for part in network_parts(detect_family(folder)):
        check_values(weight_files(folder / part))
    if vae is not None:
        check_values(weight_files(vae, "vae"))
