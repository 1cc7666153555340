"""Operator limits of a generation: images, steps, area and their product."""

from __future__ import annotations

from typing import Any

import pytest

from zoodip_core.config import GenerationSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.service.generation_limits import check_generation_limits
from zoodip_core.service.settings import ServiceSettings

NATIVE_PX = 64


def _check(side_px: int | None = NATIVE_PX, limits: dict[str, Any] | None = None, **values: Any) -> None:
    generation = GenerationSettings.parse({"prompt": "a cat", **values})
    check_generation_limits(generation, side_px, ServiceSettings(**(limits or {})))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"n": 64, "width": 128, "height": 128, "steps": 50},
        {"steps": 1000},
        {"width": 512, "height": 32},
    ],
)
def test_default_limits_allow_usual_generations(values: dict[str, Any]) -> None:
    """The native size, four times its area, many images and many steps are allowed."""
    _check(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"width": 1024, "height": 1024},
            "size: got 1024x1024; expected at most 16384 pixels, 4 times those of 64x64",
        ),
        ({"width": 520, "height": 32}, "size: got 520x32"),
        ({"height": 512}, "size: got 64x512"),
        (
            {"n": 64, "steps": 1000},
            "n: got 64 images of 64x64 in 1000 steps; expected at most 20000 steps of a 64x64 image in total, "
            "instead of 64000",
        ),
    ],
)
def test_default_limits_refuse_work_of_hours(values: dict[str, Any], message: str) -> None:
    """A large area, or a large product of images, steps and area, is refused; the message has the limit."""
    with pytest.raises(InvalidSettingsError) as refused:
        _check(**values)
    assert refused.value.message.startswith(message)
    assert refused.value.field == message.partition(":")[0]


@pytest.mark.parametrize(
    ("limits", "values", "field"),
    [
        ({"max_generation_images": 2}, {"n": 3}, "n"),
        ({"max_generation_steps": 10}, {"steps": 11}, "steps"),
        ({"max_generation_area": 1.0}, {"width": 72, "height": 64}, "size"),
        ({"max_generation_cost": 40.0}, {"n": 3, "steps": 20}, "n"),
    ],
)
def test_operators_set_each_limit(limits: dict[str, Any], values: dict[str, Any], field: str) -> None:
    """A lower limit of the settings is applied."""
    _check(**values)
    with pytest.raises(InvalidSettingsError) as refused:
        _check(limits=limits, **values)
    assert refused.value.field == field


def test_without_files_of_the_base_model_only_counts_are_checked() -> None:
    """If the native size is unknown, images and steps are checked, and the size is left to the worker."""
    _check(None, width=4096, height=4096)
    with pytest.raises(InvalidSettingsError, match="n: got 3; expected at most 2"):
        _check(None, {"max_generation_images": 2}, n=3)
