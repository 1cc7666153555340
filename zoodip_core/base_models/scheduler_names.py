"""The schedulers that a generation can name, without importing diffusers."""

from __future__ import annotations

from typing import Any

from zoodip_core.errors import UnknownSchedulerError

_KARRAS = {"use_karras_sigmas": True}

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),
    "dpm++_karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_karras": ("HeunDiscreteScheduler", _KARRAS),
    "pndm": (
        "PNDMScheduler",
        {"skip_prk_steps": True},
    ),  # as Stable Diffusion runs it; few steps fail otherwise
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_karras": ("UniPCMultistepScheduler", _KARRAS),
}
"""Name → class in diffusers, and settings that override those of the base model.

`_karras` selects the noise levels of arXiv:2206.00364, Eq. (5), instead of equally spaced timesteps.
"""


def check_scheduler(name: str | None) -> None:
    """Validate the name of a scheduler; None means the scheduler of the base model.

    Raises:
        UnknownSchedulerError: lists the names.
    """
    if name is not None and name not in SCHEDULERS:
        raise UnknownSchedulerError.mismatch(
            "scheduler", got=repr(name), expected=f"one of {', '.join(sorted(SCHEDULERS))}"
        )
