"""Errors as OpenAI's API returns them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from api.facades.errors import route_class
from api.problems import Problem

_CODES = {"unauthorized": "invalid_api_key", "rate_limited": "rate_limit_exceeded"}


def render(problem: Problem) -> tuple[int, dict[str, Any]]:
    """Return status and body. OpenAI's API answers 400 where this service answers 422."""
    code = "model_not_found" if is_unknown_model(problem) else _CODES.get(problem.code, problem.code)
    status = 400 if problem.status == 422 else problem.status
    return status, {"error": problem.error.model_dump() | {"code": code}}


def is_unknown_model(problem: Problem) -> bool:
    """Return whether the request names a model that does not exist."""
    return problem.code == "not_found" and problem.error.param == "model"


OpenAIRoute = route_class(render)
