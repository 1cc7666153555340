"""When a running personalization measures its validation loss, saves a checkpoint and draws a preview.

All apply while the search goes on. After the last step, the loss is measured once more, a last preview is drawn, and
the concept is saved.
"""

from __future__ import annotations

import math

from zoodip_core.config import PersonalizationSettings

QUARTERED_STEPS = 100
"""Steps from which a search draws a preview after each quarter. A preview costs as much as about ten steps."""


def measurement_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether the validation loss is measured after `step` completed steps."""
    return step % settings.measure_every == 0


def count_measurements(settings: PersonalizationSettings) -> int:
    """Return the number of measurements of a search with all its steps, with those before and after it."""
    return 2 + (settings.steps - 1) // settings.measure_every


def last_measured_step(settings: PersonalizationSettings, measurements: int) -> int:
    """Return the step of the last of `measurements`; the first one is from before the search."""
    return (measurements - 1) * settings.measure_every


def checkpoint_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether a checkpoint is saved after `step` completed steps."""
    return step % settings.checkpoint_every == 0


def preview_due(settings: PersonalizationSettings, step: int, every: int) -> bool:
    """Return whether a preview is drawn after `step` steps, when the operator wants one at least every `every` steps.

    A search of `QUARTERED_STEPS` or more draws one after each quarter. Any search draws one after its first
    checkpoint.
    """
    return step % _between_previews(settings, every) == 0 or step == settings.checkpoint_every


def count_previews(settings: PersonalizationSettings, every: int) -> int:
    """Return the number of previews of a search with all its steps, with the one after it."""
    last, first_checkpoint = settings.steps - 1, settings.checkpoint_every
    between = _between_previews(settings, every)
    is_extra = first_checkpoint <= last and first_checkpoint % between != 0
    return 1 + last // between + is_extra


def _between_previews(settings: PersonalizationSettings, every: int) -> int:
    """Return the steps between two previews."""
    return min(every, math.ceil(settings.steps / 4)) if settings.steps >= QUARTERED_STEPS else every
