"""Names of samplers in A1111's API and the schedulers that they mean."""

from __future__ import annotations

from api.facades.ignored_fields import ignored
from zoodip_core.base_models.scheduler_names import SCHEDULERS
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

SCHEDULES = ("Automatic", "Karras")
"""Schedule types: that of the base model, and Karras sigmas."""

_BY_NAME = {
    other.lower(): (name, scheduler)
    for name, (scheduler, aliases) in SAMPLERS.items()
    for other in (name, *aliases)
}
_NAMES = {scheduler: name for name, (scheduler, _) in SAMPLERS.items()}
_KARRAS = "karras"


def find_scheduler(sampler: str | None, schedule: str | None) -> tuple[str | None, list[InputWarning]]:
    """Return the scheduler that a sampler means; None selects that of the base model.

    Args:
        sampler: name of the sampler, in any case; None or empty selects none.
        schedule: schedule type, in any case; older clients append it to the name of the sampler.
    """
    warnings = []
    name, schedule = (sampler or "").lower(), (schedule or SCHEDULES[0]).lower()
    if name.endswith(f" {_KARRAS}"):
        name, schedule = name.removesuffix(f" {_KARRAS}"), _KARRAS
    if name and name not in _BY_NAME:
        warnings.append(ignored("sampler_name", "the sampler is unknown, so that of the base model is used"))
    scheduler = _BY_NAME.get(name, (None, None))[1]
    if schedule == _KARRAS and f"{scheduler}_{_KARRAS}" in SCHEDULERS:
        scheduler = f"{scheduler}_{_KARRAS}"
    elif schedule != SCHEDULES[0].lower():
        warnings.append(ignored("scheduler", "the base model determines the schedule of this sampler"))
    return scheduler, warnings


def sampler_name(scheduler: str | None) -> str:
    """Return the name of the sampler that means a scheduler."""
    if scheduler is None:
        return SCHEDULES[0]
    plain = scheduler.removesuffix(f"_{_KARRAS}")
    return _NAMES[plain] if plain == scheduler else f"{_NAMES[plain]} {SCHEDULES[1]}"
