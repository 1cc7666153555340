"""Errors of the quality benchmark."""

from __future__ import annotations

from zoodip_core.errors import ZoodipError


class BenchmarkError(ZoodipError):
    """The benchmark cannot run."""

    code = "benchmark"
