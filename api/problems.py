"""Error responses: RFC 9457 problem documents with an `error` member for clients of OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from api.validation_messages import field_of, message_of
from zoodip_core.errors import InvalidInputError, StorageError, ZoodipError
from zoodip_core.service.errors import QuotaExceededError, RateLimitedError

MEDIA_TYPE = "application/problem+json"

STATUS_OF_CODE: dict[str, int] = {
    "zoodip_error": 500,
    "invalid_input": 422,
    "invalid_settings": 422,
    "invalid_image": 422,
    "image_count": 422,
    "image_too_large": 413,
    "invalid_token": 422,
    "invalid_initializer": 422,
    "invalid_caption": 422,
    "unknown_token": 422,
    "unknown_base_model": 422,
    "unknown_scheduler": 422,
    "invalid_artifact": 422,
    "model_mismatch": 422,
    "content_filtered": 422,
    "invalid_webhook": 422,
    "invalid_image_url": 422,
    "idempotency_mismatch": 422,
    "invalid_model": 500,
    "invalid_checkpoint": 500,
    "loss_not_finite": 500,
    "image_not_finite": 500,
    "internal_error": 500,
    "lease_lost": 500,
    "worker_lost": 500,
    "out_of_memory": 503,
    "storage_failed": 503,
    "interrupted": 503,
    "queue_full": 503,
    "uploads_busy": 503,
    "not_found": 404,
    "conflict": 409,
    "token_taken": 409,
    "idempotency_in_flight": 409,
    "unauthorized": 401,
    "forbidden": 403,
    "quota_exceeded": 429,
    "rate_limited": 429,
}

_OPENAI_TYPE = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODE_OF_STATUS = {413: "body_too_large"}  # statuses whose code differs from the name of the status
_RETRY_AFTER_S = {
    "queue_full": 30,
    "uploads_busy": 5,
    "database_unavailable": 5,
    "storage_failed": 10,
    "quota_exceeded": 60,
}

_log = structlog.get_logger("zoodip.api")


class FieldError(BaseModel):
    """One invalid field of a request."""

    field: str | None = Field(description="Path of the field; null for the whole body", examples=["token"])
    message: str = Field(
        description="The value and what is allowed",
        examples=["n: got 0; expected a number greater than or equal to 1"],
    )


class OpenAIError(BaseModel):
    """The same error in the shape of OpenAI's API."""

    message: str = Field(description="Same as `detail`")
    type: str = Field(description="Error class of OpenAI's API", examples=["invalid_request_error"])
    param: str | None = Field(description="First invalid field")
    code: str = Field(description="Same as the outer `code`")


class Problem(BaseModel):
    """Problem document of RFC 9457 with a stable `code`."""

    type: str = Field(description="URN of the error", examples=["urn:zoodip:error:invalid_token"])
    title: str = Field(description="Name of the HTTP status", examples=["Unprocessable Content"])
    status: int = Field(description="HTTP status", examples=[422])
    detail: str = Field(description="Message for people")
    code: str = Field(description="Stable code for programs", examples=["invalid_token"])
    errors: list[FieldError] = Field(description="Invalid fields; empty if the error has no field")
    error: OpenAIError


def problem(
    status: int,
    code: str,
    detail: str,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return an error response.

    Args:
        status: HTTP status.
        code: stable error code.
        detail: message for people.
        errors: invalid fields of the request.
        headers: more headers; a default Retry-After is added where retries help.
    """
    errors = errors or []
    kind = _OPENAI_TYPE.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = Problem(
        type=f"urn:zoodip:error:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=errors,
        error=OpenAIError(message=detail, type=kind, param=errors[0].field if errors else None, code=code),
    )
    headers = dict(headers or {})
    if code in _RETRY_AFTER_S:
        headers.setdefault("Retry-After", str(_RETRY_AFTER_S[code]))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), status, headers, media_type=MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of error responses: the given statuses and those that every route can return."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 401, 403, 422, 429, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Register handlers that turn exceptions into problem documents."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def problem_of(request: Request, error: Exception) -> JSONResponse:
    """Return the problem document of an exception of one of the classes in `HANDLED`."""
    return await next(handler for kind, handler in _HANDLERS.items() if isinstance(error, kind))(
        request, error
    )


def problem_from_error(error: ZoodipError) -> JSONResponse:
    """Return the problem document of an error."""
    headers = {}
    if isinstance(error, RateLimitedError | QuotaExceededError) and error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    message = error.message
    if isinstance(error, StorageError):  # its message can contain paths and addresses of the server
        _log.warning("storage_failed", error=message)
        message = "The storage is unavailable or full; retry later."
    fields = [FieldError(field=error.field, message=message)] if error.field else []
    return problem(STATUS_OF_CODE[error.code], error.code, message, fields, headers)


# The handlers are coroutines: functions would wait for a thread, and all threads can be busy.
async def _on_zoodip_error(_request: Request, error: Exception) -> JSONResponse:
    return problem_from_error(cast("ZoodipError", error))


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    found = cast("RequestValidationError", error).errors()
    if any(item["loc"] == ("body",) and isinstance(item.get("input"), bytes) for item in found):
        content_type = request.headers.get("Content-Type", "nothing")
        wrong = InvalidInputError.mismatch("Content-Type", got=content_type, expected="application/json")
        fields = [FieldError(field=wrong.field, message=wrong.message)]
        return problem(422, "invalid_request", wrong.message, fields)
    if any(item["type"] == "json_invalid" for item in found):
        return problem(400, "invalid_json", "The body is not valid JSON.")
    errors = [FieldError(field=field_of(item), message=message_of(item)) for item in found]
    return problem(422, "invalid_request", errors[0].message, errors)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    found = cast("HTTPException", error)
    code = _CODE_OF_STATUS.get(found.status_code, HTTPStatus(found.status_code).name.lower())
    headers = dict(found.headers or {})
    if found.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
    return problem(found.status_code, code, str(found.detail), headers=headers)


def _allowed_methods(request: Request) -> str:
    """Return the methods of all routes with the path of the request; the framework names those of the first one."""
    routes = [context.original_route for context in iter_route_contexts(request.app.routes)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching if isinstance(route, Route) for method in route.methods or ()}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


async def _on_database_error(_request: Request, error: Exception) -> JSONResponse:
    _log.warning("database_unavailable", error=type(error).__name__)
    return problem(503, "database_unavailable", "The database is unavailable; retry later.")


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
    ZoodipError: _on_zoodip_error,
    RequestValidationError: _on_invalid_request,
    HTTPException: _on_http_exception,
    OperationalError: _on_database_error,
    InterfaceError: _on_database_error,
    PoolTimeoutError: _on_database_error,
}
HANDLED = tuple(_HANDLERS)
"""Exceptions that become problem documents. Others are faults of the service."""
