"""Every method of the table as named settings, in one place.

The captions, references, prompts and seeds are the same for all. A backward pass counts as two forwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning.backprop import BACKPROP_FORWARDS
from zoodip_core.base_models.catalog import BaseModelEntry, Preset, resolve_settings
from zoodip_core.base_models.families import Family, detect_family
from zoodip_core.config import PersonalizationSettings, Precision
from zoodip_core.diffusion.loading import locate
from zoodip_core.zeroth_order.estimator import ESTIMATORS

ENDLESS = 1_000_000
"""Steps of a search whose rate is constant: its tokens along the way do not depend on where it ends."""

ANCHORS = {
    "initializer": "the word that every search starts from",
    "caption": "the subject in the model's own words",
    "real": "composed pictures of what each prompt asks for",
}
BARE: Preset = "paper"
"""The preset of what is no search by forward passes: no figure of it may hang on how a base model is searched."""

BACKPROP_RATES = (0.0025, 0.005, 0.01, 0.02, 0.04)


@dataclass(frozen=True)
class Method:
    """How a token is learned."""

    name: str
    about: str
    preset: Preset = "default"
    values: Mapping[str, Any] = field(default_factory=dict)  # over the preset's
    precision: Precision | None = None  # None: the base model's own
    rate: float | None = None  # of Adam on the true gradient; None: forward passes only


_ANY_TIMESTEP = {"t_low": 0, "t_high": 1000}
_WHOLE_SPACE = {"subspace": "none"}

METHODS = {
    method.name: method
    for method in (
        Method("default", "this model's own settings in the catalogue"),
        Method("paper", "n = 2, SG and PUTS, as printed", "paper"),
        Method("paper-puts", "the paper without SG", "paper", _WHOLE_SPACE),
        Method("paper-sg", "the paper without PUTS", "paper", _ANY_TIMESTEP),
        Method("paper-neither", "the paper without SG and PUTS", "paper", _WHOLE_SPACE | _ANY_TIMESTEP),
        *(
            Method(
                f"ti-{rate:g}", "backpropagation, Adam with a falling rate", BARE, precision="fp32", rate=rate
            )
            for rate in BACKPROP_RATES
        ),
    )
}

CHANGEABLE = tuple(name for name, method in METHODS.items() if method.rate is None)
"""The methods that search by forward passes: changes of settings apply to these alone."""


def check_methods(
    names: Sequence[str], allowed: Collection[str] = (*ANCHORS, *METHODS), option: str = "methods"
) -> list[str]:
    """The names, in order, each once.

    Raises:
        BenchmarkError: a name that is not allowed.
    """
    for name in names:
        if name not in allowed:
            raise BenchmarkError(f"--{option} {name}: allowed: {', '.join(allowed)}", field=option)
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Plan:
    """One search: its settings, and the counts of forwards at which its tokens are wanted."""

    method: Method
    settings: PersonalizationSettings
    forwards: tuple[int, ...]


def check_plans(
    methods: Sequence[str], entry: BaseModelEntry, *, forwards: Sequence[int], changes: dict[str, Any]
) -> None:
    """Refuse, before anything is measured, what no search could be asked for; anchors are passed over.

    Raises:
        BenchmarkError, InvalidSettingsError: as `plans`.
        InvalidModelError: the base model's folder is incomplete or of an unsupported kind.
    """
    family = detect_family(locate(entry))
    for name in methods:
        if name in METHODS:
            plans(METHODS[name], entry, family, seed=0, forwards=forwards, changes=changes)


def plans(
    method: Method,
    entry: BaseModelEntry,
    family: Family,
    *,
    seed: int,
    forwards: Sequence[int],
    changes: dict[str, Any],
) -> list[Plan]:
    """The searches that give a method's tokens: one for all counts, or one a count where the rate falls.

    Raises:
        BenchmarkError: a count is too small for one step, or a change is of what the run's own options say.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    refuse_changes(changes, "seed", "steps")
    values = dict(method.values) | ({} if method.rate is not None else changes) | {"seed": seed}
    settings = resolve_settings(entry, family, method.preset, values)
    per_step = forwards_per_step(method, settings)
    wanted = sorted(set(forwards))
    if wanted[0] < per_step:
        raise BenchmarkError(f"--forwards {wanted[0]}: one step of {method.name} takes {per_step}")
    if method.rate is None and settings.learning_rate_schedule == "constant":
        return [Plan(method, settings.model_copy(update={"steps": ENDLESS}), tuple(wanted))]
    return [
        Plan(method, settings.model_copy(update={"steps": count // per_step}), (count,)) for count in wanted
    ]


def refuse_changes(changes: dict[str, Any], *names: str) -> None:
    """Refuse changes of settings that a run's own options say: they would be lost without a word.

    Raises:
        BenchmarkError: one of the names is among the changes.
    """
    for name in names:
        if name in changes:
            message = (
                f"settings.{name} = {changes[name]}: the run's own options say it; allowed: any other setting"
            )
            raise BenchmarkError(message, field=f"settings.{name}")


def forwards_per_step(method: Method, settings: PersonalizationSettings) -> int:
    """U-Net forwards of one step of one case."""
    if method.rate is not None:
        return BACKPROP_FORWARDS
    return ESTIMATORS[settings.estimator].forwards(settings.n)
