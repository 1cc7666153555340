"""When a running personalization measures its validation loss, saves a checkpoint and draws a preview.

All apply while the search goes on. After the last step, the loss is measured once more, a last preview is drawn, and
the concept is saved.
"""

from __future__ import annotations

from zoodip_core.config import PersonalizationSettings


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
    """Return whether a preview is drawn after `step` steps: every `every` steps, and after the first checkpoint."""
    return step % every == 0 or step == settings.checkpoint_every


def count_previews(settings: PersonalizationSettings, every: int) -> int:
    """Return the number of previews of a search with all its steps, with the one after it."""
    last, first_checkpoint = settings.steps - 1, settings.checkpoint_every
    is_extra = first_checkpoint <= last and first_checkpoint % every != 0
    return 1 + last // every + is_extra
