"""Watches a calibration: receives its progress, and stops it on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zoodip_core.errors import InterruptedSearchError

Stage = Literal["learned", "measured"]


@dataclass(frozen=True)
class Watch:
    """Watches a calibration.

    Attributes:
        on_progress: called with the finished stage, the number of pseudo-subjects that finished it, and that of all.
        should_stop: called before each pseudo-subject is drawn, and before each step of learning.
    """

    on_progress: Callable[[Stage, int, int], None]
    should_stop: Callable[[], bool]

    def check(self) -> None:
        """Stop the calibration if that is requested.

        Raises:
            InterruptedSearchError: it is.
        """
        if self.should_stop():
            raise InterruptedSearchError("interrupted; calibrate again with the same options to continue")
