"""Errors of the service. They extend the error tree of `zoodip_core.errors` and have stable codes."""

from __future__ import annotations

from zoodip_core.errors import InvalidInputError, ZoodipError


class NotFoundError(ZoodipError):
    """No resource with this id exists."""

    code = "not_found"


class ConflictError(ZoodipError):
    """The state of the resource does not allow this operation."""

    code = "conflict"


class TokenTakenError(ConflictError):
    """A concept or an unfinished personalization uses this token; `replace: true` replaces the concept."""

    code = "token_taken"


class IdempotencyMismatchError(ZoodipError):
    """This Idempotency-Key was already used with a different request."""

    code = "idempotency_mismatch"


class IdempotencyInFlightError(ConflictError):
    """The first request with this Idempotency-Key is still in progress."""

    code = "idempotency_in_flight"
    retryable = True


class UnauthorizedError(ZoodipError):
    """The request needs an API key: `Authorization: Bearer zd_…`."""

    code = "unauthorized"


class ForbiddenError(ZoodipError):
    """The API key lacks the required scope."""

    code = "forbidden"


class QuotaExceededError(ZoodipError):
    """A quota is exhausted."""

    code = "quota_exceeded"
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitedError(ZoodipError):
    """Too many requests; retry later."""

    code = "rate_limited"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Too many requests; retry in {retry_after_s:.1f} s.")
        self.retry_after_s = retry_after_s


class QueueFullError(ZoodipError):
    """The job queue is full; retry later."""

    code = "queue_full"
    retryable = True


class UploadsBusyError(ZoodipError):
    """The service receives too many uploads at once; retry later."""

    code = "uploads_busy"
    retryable = True


class InvalidWebhookError(InvalidInputError):
    """The webhook is not an https URL, or the service has no secret to sign its messages."""

    code = "invalid_webhook"


class InvalidImageUrlError(InvalidInputError):
    """An image could not be downloaded: its URL is not allowed, or its server did not send it."""

    code = "invalid_image_url"


class LeaseLostError(ZoodipError):
    """The job has ended or is leased to another worker; nothing was written."""

    code = "lease_lost"


class WorkerLostError(ZoodipError):
    """The worker of the job died in every allowed attempt."""

    code = "worker_lost"
    retryable = True


class InternalError(ZoodipError):
    """The service failed unexpectedly; the worker's log has the details under the job id."""

    code = "internal_error"
