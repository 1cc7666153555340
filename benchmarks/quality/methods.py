"""Every method of the table as named settings, in one place.

The captions, references, prompts and seeds are the same for all. A backward pass counts as two forwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.errors import BenchmarkError
from zoodip_core.base_models.catalog import Preset
from zoodip_core.config import Precision

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
