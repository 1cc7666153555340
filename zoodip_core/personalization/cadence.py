"""When a running personalization measures its validation loss and saves a checkpoint.

Both apply while the search goes on. After the last step, the loss is measured once more and the concept is saved.
"""

from __future__ import annotations

from zoodip_core.config import PersonalizationSettings


def measurement_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether the validation loss is measured after `step` completed steps."""
    return step % settings.measure_every == 0


def last_measured_step(settings: PersonalizationSettings, measurements: int) -> int:
    """Return the step of the last of `measurements`; the first one is from before the search."""
    return (measurements - 1) * settings.measure_every


def checkpoint_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether a checkpoint is saved after `step` completed steps."""
    return step % settings.checkpoint_every == 0
