"""Names of samplers in A1111's API and the schedulers that they mean."""

from __future__ import annotations

from api.facades.ignored_fields import ignored
from zoodip_core.input_warnings import InputWarning

SAMPLERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "DDIM": ("ddim", ()),
    "DDPM": ("ddpm", ()),
    "DPM++ 2M": ("dpm++", ("k_dpmpp_2m",)),
    "Euler": ("euler", ("k_euler",)),
    "Euler a": ("euler_ancestral", ("k_euler_a", "k_euler_ancestral")),
    "Heun": ("heun", ("k_heun",)),
    "PLMS": ("pndm", ()),
    "UniPC": ("unipc", ()),
}
"""Name → scheduler, and other names of the sampler."""

SCHEDULE = "Automatic"
"""The only schedule type: that of the base model."""

_BY_NAME = {
    other.lower(): (name, scheduler)
    for name, (scheduler, aliases) in SAMPLERS.items()
    for other in (name, *aliases)
}
_NAMES = {scheduler: name for name, (scheduler, _) in SAMPLERS.items()}
_KARRAS = " karras"  # older clients append the schedule type to the name


def find_scheduler(sampler: str | None, schedule: str | None) -> tuple[str | None, list[InputWarning]]:
    """Return the scheduler that a sampler means; None selects that of the base model.

    Args:
        sampler: name of the sampler, in any case; None or empty selects none.
        schedule: schedule type, in any case.
    """
    warnings = []
    name = (sampler or "").lower()
    if name.endswith(_KARRAS):
        name, schedule = name.removesuffix(_KARRAS), "karras"
    if schedule and schedule.lower() != SCHEDULE.lower():
        warnings.append(ignored("scheduler", "the base model determines the schedule"))
    if name and name not in _BY_NAME:
        warnings.append(ignored("sampler_name", "the sampler is unknown, so that of the base model is used"))
    return _BY_NAME.get(name, (None, None))[1], warnings


def sampler_name(scheduler: str | None) -> str:
    """Return the name of the sampler that means a scheduler."""
    return SCHEDULE if scheduler is None else _NAMES[scheduler]
