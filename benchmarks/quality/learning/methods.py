"""The compared methods as named settings, and the searches that they need.

Captions, references, prompts and seeds are the same for all methods. A backward pass counts as two U-Net evaluations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning.backprop import BACKPROP_FORWARDS
from benchmarks.quality.learning.evolution import POPULATION
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.families import Family, detect_family
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.base_models.presets import Preset, resolve_settings
from zoodip_core.config import PersonalizationSettings, Precision
from zoodip_core.zeroth_order.estimator import ESTIMATORS

ANCHORS = {
    "initializer": "the word that every search starts from",
    "caption": "the subject in the model's own words",
    "real": "composed pictures of what each prompt asks for",
}
ANCHOR_PRESET: Preset = "paper"
"""Preset of anchors and backpropagation. Their figures must not depend on a base model's search settings."""

BACKPROP_RATES = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
SEED_STRIDE = 1_000_003
"""Distance between the seeds of two cases; above any number of search seeds."""
UNBOUNDED_STEPS = 1_000_000
"""Steps of a search with a constant rate. Its tokens do not depend on where it ends."""


@dataclass(frozen=True)
class Method:
    """A way to learn a token."""

    name: str
    about: str
    preset: Preset = "default"
    values: Mapping[str, Any] = field(default_factory=dict)  # override the preset
    precision: Precision | None = None  # None: that of the base model
    rate: float | None = None  # of Adam on the true gradient; None: forward passes only
    evolves: bool = False  # CMA-ES instead of the search that the settings describe


_ANY_TIMESTEP = {"t_low": 0, "t_high": 1000}
_WITHOUT_SG = {"subspace": "none"}

METHODS = {
    method.name: method
    for method in (
        Method(
            "calibrated", "Gauss–Newton steps in the calibrated space", values={"search_space": "calibrated"}
        ),
        Method("full", "the settings of the model's catalog entry", values={"search_space": "full"}),
        Method(
            "gf-ti",
            "CMA-ES in the vocabulary's principal directions",
            values={"search_space": "full"},
            evolves=True,
        ),
        Method("paper", "n = 2, SG and PUTS, as printed", "paper"),
        Method("script", "the settings of the published script", "script"),
        Method("paper-puts", "the paper without SG", "paper", _WITHOUT_SG),
        Method("paper-sg", "the paper without PUTS", "paper", _ANY_TIMESTEP),
        Method("paper-neither", "the paper without SG and PUTS", "paper", _WITHOUT_SG | _ANY_TIMESTEP),
        *(
            Method(
                f"ti-{rate:g}",
                "backpropagation, Adam with a decaying rate",
                ANCHOR_PRESET,
                precision="fp32",
                rate=rate,
            )
            for rate in BACKPROP_RATES
        ),
        Method(
            "ti-predicted-0.04",
            "backpropagation from the token that the calibration predicts",
            values={"search_space": "calibrated"},
            precision="fp32",
            rate=0.04,
        ),
        Method(
            "ti-int8-0.04",
            "backpropagation through INT8 weights, with gradient checkpointing",
            ANCHOR_PRESET,
            precision="int8",
            rate=0.04,
        ),
    )
}

FORWARD_METHODS = tuple(name for name, method in METHODS.items() if method.rate is None)
"""Methods that search with forward passes. Changes of settings apply to these only."""


@dataclass(frozen=True)
class Plan:
    """One search: its settings, and the numbers of evaluations after which its tokens are stored."""

    method: Method
    settings: PersonalizationSettings
    forwards: tuple[int, ...]
    seed_per_case: bool = False

    def case_settings(self, index: int) -> PersonalizationSettings:
        """Return the settings of one case of the batch; with a seed for each case, its own seed."""
        if not self.seed_per_case:
            return self.settings
        return self.settings.model_copy(update={"seed": self.settings.seed + SEED_STRIDE * (index + 1)})


def check_methods(
    names: Sequence[str], allowed: Collection[str] = (*ANCHORS, *METHODS), option: str = "methods"
) -> list[str]:
    """Validate the names; return them in order without duplicates.

    Raises:
        BenchmarkError: a name is not allowed.
    """
    for name in names:
        if name not in allowed:
            raise BenchmarkError.mismatch(f"--{option}", got=name, expected=", ".join(allowed))
    return list(dict.fromkeys(names))


def check_plans(
    methods: Sequence[str], entry: BaseModelEntry, *, forwards: Sequence[int], changes: dict[str, Any]
) -> None:
    """Validate the settings of all searches before anything is measured; ignores anchors.

    Raises:
        BenchmarkError, InvalidSettingsError: as for `make_plans`.
        InvalidModelError: the base model's folder is incomplete or of an unsupported kind.
    """
    family = detect_family(find_model_folder(entry))
    for name in methods:
        if name in METHODS:
            make_plans(METHODS[name], entry, family, seed=0, forwards=forwards, changes=changes)


def make_plans(
    method: Method,
    entry: BaseModelEntry,
    family: Family,
    *,
    seed: int,
    forwards: Sequence[int],
    changes: dict[str, Any],
    seed_per_case: bool = False,
) -> list[Plan]:
    """Return the searches of a method: a single one with a constant rate, else one for each length.

    With `seed_per_case` the cases of a batch draw different random numbers, so their mean varies less.

    Raises:
        BenchmarkError: a length is too short for one step, or a change belongs to another option.
        InvalidSettingsError: a setting is unknown or not allowed.
    """
    refuse_changes(changes, "seed", "steps")
    values = dict(method.values) | ({} if method.rate is not None else changes) | {"seed": seed}
    settings = resolve_settings(entry, family, method.preset, values)
    per_step = forwards_per_step(method, settings)
    lengths = sorted(set(forwards))
    if lengths[0] < per_step:
        expected = f"{per_step} or more, one step of {method.name}"
        raise BenchmarkError.mismatch("--forwards", got=lengths[0], expected=expected)
    if method.rate is None and settings.learning_rate_schedule == "constant":
        endless = settings.model_copy(update={"steps": UNBOUNDED_STEPS})
        return [Plan(method, endless, tuple(lengths), seed_per_case)]
    return [
        Plan(method, settings.model_copy(update={"steps": length // per_step}), (length,), seed_per_case)
        for length in lengths
    ]


def refuse_changes(changes: dict[str, Any], *names: str) -> None:
    """Refuse changes of settings that have a command-line option, because the option would override them.

    Raises:
        BenchmarkError: one of the names is among the changes.
    """
    for name in names:
        if name in changes:
            expected = "another setting; the command's own options set this one"
            raise BenchmarkError.mismatch(f"settings.{name}", got=changes[name], expected=expected)


def forwards_per_step(method: Method, settings: PersonalizationSettings) -> int:
    """Return the U-Net evaluations of one step of one case."""
    if method.rate is not None:
        return BACKPROP_FORWARDS
    if method.evolves:
        return POPULATION
    return ESTIMATORS[settings.estimator].forwards(settings.n)
