"""What can go wrong in a run of EmojiBooth, one clear message each."""

from __future__ import annotations

from zoodip_core.errors import ZoodipError


class BenchmarkError(ZoodipError):
    """The benchmark cannot run."""

    code = "benchmark"
