"""When a running personalization measures its validation loss and saves a checkpoint."""

from __future__ import annotations

from zoodip_core.config import PersonalizationSettings


def measurement_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether the validation loss is measured after `step` completed steps.

    The last step is measured separately, so ask only while the search goes on.
    """
    return step % settings.measure_every == 0


def checkpoint_due(settings: PersonalizationSettings, step: int) -> bool:
    """Return whether a checkpoint is saved after `step` completed steps, while the search goes on."""
    return step % settings.checkpoint_every == 0
