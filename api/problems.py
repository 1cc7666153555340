"""Every error as one RFC 9457 problem document, and as the `error` member that OpenAI's clients read."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from zoodip_core.errors import ZoodipError
from zoodip_core.service.errors import RateLimitedError

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
    "invalid_webhook": 422,
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
_CODE_OF_STATUS = {413: "body_too_large"}  # where the code is not the status's own name
_RETRY_AFTER_S = {"queue_full": 30, "database_unavailable": 5, "storage_failed": 10, "quota_exceeded": 60}

_log = structlog.get_logger("zoodip.api")


class FieldError(BaseModel):
    """One thing that is wrong with the request."""

    field: str | None = Field(examples=["token"])
    message: str = Field(examples=["token: 'dog' is a word of the base model already"])


class OpenAIError(BaseModel):
    """The same error in the shape of OpenAI's API."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None
    code: str


class Problem(BaseModel):
    """An error: RFC 9457 with a stable `code`."""

    type: str = Field(examples=["urn:zoodip:error:invalid_token"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str
    code: str = Field(examples=["invalid_token"])
    errors: list[FieldError]
    error: OpenAIError


def problem(
    status: int,
    code: str,
    detail: str,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """The answer that tells of an error."""
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
    """OpenAPI's description of the errors with which a route may answer."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 400, 401, 403, 422, 429, 500, 503})
    }


def install(app: FastAPI) -> None:
    """Answer every exception with a problem document."""
    app.add_exception_handler(ZoodipError, _on_zoodip_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, _on_database_error)


def of_error(error: ZoodipError) -> JSONResponse:
    """The problem document of an error of ours."""
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    fields = [FieldError(field=error.field, message=error.message)] if error.field else []
    return problem(STATUS_OF_CODE[error.code], error.code, error.message, fields, headers)


def _on_zoodip_error(_request: Request, error: Exception) -> JSONResponse:
    return of_error(cast("ZoodipError", error))


def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    found = cast("RequestValidationError", error).errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem(400, "invalid_json", "The body is not JSON")
    errors = [
        FieldError(field=".".join(str(part) for part in item["loc"][1:]) or None, message=item["msg"])
        for item in found
    ]
    first = errors[0]
    return problem(422, "invalid_request", f"{first.field or 'request'}: {first.message}", errors)


def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    found = cast("HTTPException", error)
    code = _CODE_OF_STATUS.get(found.status_code, HTTPStatus(found.status_code).name.lower())
    return problem(found.status_code, code, str(found.detail), headers=dict(found.headers or {}))


def _on_database_error(_request: Request, error: Exception) -> JSONResponse:
    _log.warning("database_unavailable", error=type(error).__name__)
    return problem(503, "database_unavailable", "The database does not answer; try again")
