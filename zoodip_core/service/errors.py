"""What can go wrong in the service beside the engine's errors: the same tree, stable codes."""

from __future__ import annotations

from zoodip_core.errors import InvalidInputError, ZoodipError


class NotFoundError(ZoodipError):
    """There is nothing of that id here."""

    code = "not_found"


class ConflictError(ZoodipError):
    """The resource is in a state that does not allow this."""

    code = "conflict"


class TokenTakenError(ConflictError):
    """A concept or an unfinished personalization has this token; `replace: true` lets the new one take it."""

    code = "token_taken"


class IdempotencyMismatchError(ZoodipError):
    """This Idempotency-Key was used with another request."""

    code = "idempotency_mismatch"


class IdempotencyInFlightError(ConflictError):
    """The first request with this Idempotency-Key is still being answered."""

    code = "idempotency_in_flight"
    retryable = True


class UnauthorizedError(ZoodipError):
    """An API key is needed: `Authorization: Bearer zd_…`."""

    code = "unauthorized"


class ForbiddenError(ZoodipError):
    """The API key lacks the scope for this."""

    code = "forbidden"


class QuotaExceededError(ZoodipError):
    """The API key's quota is used up."""

    code = "quota_exceeded"
    retryable = True


class RateLimitedError(ZoodipError):
    """Too many requests; try again later."""

    code = "rate_limited"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"Too many requests; try again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class QueueFullError(ZoodipError):
    """The service has as many unfinished jobs as it takes."""

    code = "queue_full"
    retryable = True


class InvalidWebhookError(InvalidInputError):
    """The webhook is not an https URL, or this service has no secret to sign with."""

    code = "invalid_webhook"


class LeaseLostError(ZoodipError):
    """The job belongs to another worker now, or has ended: this write changed nothing."""

    code = "lease_lost"


class WorkerLostError(ZoodipError):
    """The job's worker died as often as a job may be started."""

    code = "worker_lost"
    retryable = True


class InternalError(ZoodipError):
    """A fault of the service; the worker's log has it under the job's id."""

    code = "internal_error"
