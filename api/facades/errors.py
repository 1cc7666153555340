"""Errors in the shape of the API that a façade imitates, on its routes only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from api.problems import HANDLED, STATUS_OF_CODE, Problem, problem, problem_of

Render = Callable[[Problem], tuple[int, dict[str, Any]]]
"""Converts a problem document to the HTTP status and the body of another API."""


class JobFailedError(Exception):
    """The job of a request failed with a code of the service."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


ERRORS: tuple[type[Exception], ...] = (*HANDLED, JobFailedError)
"""Exceptions that become error responses."""


async def rendered(request: Request, error: Exception, render: Render) -> JSONResponse:
    """Return the response of an exception, with the headers of its problem document."""
    if isinstance(error, JobFailedError):
        response = problem(STATUS_OF_CODE.get(error.code, 500), error.code, error.message)
    else:
        response = await problem_of(request, error)
    status, body = render(Problem.model_validate_json(bytes(response.body)))
    headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
    return JSONResponse(body, status, headers)


def route_class(render: Render) -> type[APIRoute]:
    """Return a class of routes that answer errors as `render` says."""

    class FacadeRoute(APIRoute):
        """Route whose errors have the shape of another API."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return the handler of the route, which also handles its errors."""
            handle = super().get_route_handler()

            async def handle_with_errors(request: Request) -> Response:
                try:
                    return await handle(request)
                except ERRORS as error:
                    return await rendered(request, error, render)

            return handle_with_errors

    return FacadeRoute


_KEPT = ("Retry-After", "WWW-Authenticate", "Connection")
