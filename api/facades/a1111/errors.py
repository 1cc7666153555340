"""Errors as A1111's API returns them: `{"error", "detail", "body", "errors"}`."""

from __future__ import annotations

from typing import Any

from api.facades.errors import route_class
from api.problems import Problem


def render(problem: Problem) -> tuple[int, dict[str, Any]]:
    """Return status and body."""
    return problem.status, {
        "error": problem.code,
        "detail": problem.detail,
        "body": "",
        "errors": problem.detail,
    }


A1111Route = route_class(render)
