"""Settings: frozen values, the paper's defaults, and error messages that name the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from zoodip_core.config import GenerationSettings, PersonalizationSettings, SearchSettings
from zoodip_core.errors import InvalidSettingsError
from zoodip_core.zeroth_order.estimator import ESTIMATORS


def test_the_defaults_match_the_paper_for_sd15() -> None:
    """Source: arXiv:2503.14868v1, Sec. 5.1; the values of Adam are from the published script."""
    settings = SearchSettings()
    assert (settings.steps, settings.n, settings.mu, settings.learning_rate) == (30_000, 2, 1e-3, 5e-3)
    assert (settings.tau, settings.nu, settings.t_low, settings.t_high) == (128, 1e-3, 500, 900)
    assert (settings.estimator, settings.directions, settings.derivative) == (
        "rge",
        "gaussian",
        "loss_difference",
    )
    assert (settings.subspace, settings.timesteps) == ("subspace_gradient", "partial_uniform")
    assert (settings.learning_rate_schedule, settings.estimate_scale) == ("constant", "mean")
    assert (settings.adam_beta1, settings.adam_beta2, settings.adam_eps) == (0.9, 0.999, 1e-3)


def test_settings_cannot_be_changed() -> None:
    """Frozen settings keep a stored job reproducible."""
    settings = PersonalizationSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.n = 3  # type: ignore[misc]


def test_settings_round_trip_through_json() -> None:
    """Plain values and JSON restore equal settings."""
    settings = PersonalizationSettings.parse({"n": 8, "directions": "orthogonal", "seed": 2**63 - 1})
    assert PersonalizationSettings.parse(settings.model_dump()) == settings
    assert PersonalizationSettings.model_validate_json(settings.model_dump_json()) == settings


def test_text_of_the_command_line_is_converted() -> None:
    """`--set n=4 --set mu=1e-2 --set flip=false` sets numbers and a boolean."""
    settings = PersonalizationSettings.parse({"n": "4", "mu": "1e-2", "flip": "false"})
    assert (settings.n, settings.mu, settings.flip) == (4, 0.01, False)


@pytest.mark.parametrize(
    ("values", "field", "fault"),
    [
        (
            {"nn": 2},
            "settings.nn",
            "settings.nn: got an unknown setting; expected one of adam_beta1, adam_beta2, adam_eps,",
        ),
        ({"n": 0}, "settings.n", "settings.n: got 0; expected a number greater than or equal to 1"),
        ({"n": 257}, "settings.n", "less than or equal to 256"),
        ({"n": "four"}, "settings.n", "settings.n: got 'four'; expected a valid integer"),
        ({"steps": 1_000_001}, "settings.steps", "less than or equal to 1000000"),
        ({"mu": 0}, "settings.mu", "greater than 0"),
        ({"mu": float("nan")}, "settings.mu", "settings.mu: got nan; expected a finite number"),
        ({"learning_rate": float("inf")}, "settings.learning_rate", "finite"),
        ({"adam_beta1": 1}, "settings.adam_beta1", "less than 1"),
        ({"nu": 1}, "settings.nu", "less than 1"),
        ({"seed": -1}, "settings.seed", "greater than or equal to 0"),
        ({"estimator": "sgd"}, "settings.estimator", "'rge', 'spsa' or 'one_point'"),
        ({"vectors": 17}, "settings.vectors", "less than or equal to 16"),
    ],
)
def test_a_mistake_names_the_setting(values: dict[str, Any], field: str, fault: str) -> None:
    """The message names field, value and allowed values."""
    with pytest.raises(InvalidSettingsError) as error:
        PersonalizationSettings.parse(values)
    assert error.value.field == field
    assert fault in error.value.message


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"t_low": 900}, "t_low is 900 and t_high is 900; expected t_low < t_high"),
        ({"t_low": 800, "t_high": 700}, "t_low is 800 and t_high is 700; expected t_low < t_high"),
        (
            {"derivative": "residual", "estimator": "spsa"},
            'derivative="residual" is one-sided, so it requires estimator="rge"',
        ),
    ],
)
def test_contradictory_settings_are_refused(values: dict[str, Any], fault: str) -> None:
    """The message names both settings."""
    with pytest.raises(InvalidSettingsError) as error:
        PersonalizationSettings.parse(values)
    assert fault in error.value.message


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": ""}, "settings.prompt"),
        ({}, "settings.prompt"),
        ({"prompt": "x" * 2001}, "settings.prompt"),
        ({"prompt": "x", "n": 65}, "settings.n"),
        ({"prompt": "x", "n": 2, "seed": 2**63 - 1}, "settings"),
        ({"prompt": "x", "guidance_scale": -1}, "settings.guidance_scale"),
        ({"prompt": "x", "guidance_scale": float("nan")}, "settings.guidance_scale"),
        ({"prompt": "x", "width": 7}, "settings.width"),
        ({"prompt": "x", "colour": 1}, "settings.colour"),
    ],
)
def test_generation_settings_are_validated(values: dict[str, Any], field: str) -> None:
    """Each bound of the generation settings raises an error that names the field."""
    with pytest.raises(InvalidSettingsError) as error:
        GenerationSettings.parse(values)
    assert error.value.field == field


@pytest.mark.parametrize(("estimator", "evaluations"), [("rge", 9), ("spsa", 16), ("one_point", 9)])
def test_settings_count_unet_evaluations(estimator: str, evaluations: int) -> None:
    """The count equals the estimator's. SPSA evaluates both sides of a direction."""
    settings = SearchSettings.parse({"estimator": estimator, "n": 8, "steps": 100})
    assert settings.evaluations_per_step == evaluations == ESTIMATORS[settings.estimator].forwards(8)
    assert settings.evaluations == 100 * evaluations
