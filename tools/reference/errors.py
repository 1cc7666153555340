"""The page of errors and warnings: the tree under `ZoodipError` with each HTTP status, and the warning codes."""

from __future__ import annotations

from collections.abc import Iterator

from api.problems import STATUS_OF_CODE
from tools.reference.markdown import GENERATED, code, table
from zoodip_core.errors import ZoodipError
from zoodip_core.input_warnings import MEANINGS
from zoodip_core.service import errors as service_errors

PAGE = """# Errors

{generated}

This page lists every error code. The API answers with an RFC 9457 problem document whose `code` is stable. The
command prints the message and exits with 2 for invalid input and 1 for other errors. With `--json` it also prints the
code. In Python, each error is a subclass of `ZoodipError` with `code`, `field` and `retryable`.

**Retry** says whether the same request can succeed later; a `Retry-After` header says when. For other 4xx errors,
change the request: `field` names the part at fault, and the message lists what is allowed.

{errors}

The HTTP layer has four more codes: `invalid_json` (400), `invalid_request` (422: a field is missing or has the wrong
type), `body_too_large` (413) and `database_unavailable` (503: retry). Other statuses use their own name, such as
`method_not_allowed` (405).

## Warnings

A warning is about input that was accepted. Responses list them as `warnings`, each with `code`, `field` and
`message`; the command prints the messages.

{warnings}
"""


def page() -> str:
    """Return the page; codes are sorted by status."""
    kinds = sorted(_tree(ZoodipError), key=lambda kind: (STATUS_OF_CODE[kind.code], kind.code))
    rows = [
        [code(kind.code), str(STATUS_OF_CODE[kind.code]), "yes" if kind.retryable else "no", _meaning(kind)]
        for kind in kinds
    ]
    warnings = [[code(warning), meaning] for warning, meaning in MEANINGS.items()]
    return PAGE.format(
        generated=GENERATED,
        errors=table(["Code", "Status", "Retry", "Meaning"], rows),
        warnings=table(["Code", "Meaning"], warnings),
    )


def _tree(root: type[ZoodipError]) -> Iterator[type[ZoodipError]]:
    """Yield the errors of core and service that have a code."""
    if "code" in vars(root) and root.__module__ in (ZoodipError.__module__, service_errors.__name__):
        yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)


def _meaning(kind: type[ZoodipError]) -> str:
    return (kind.__doc__ or "").strip().partition("\n\n")[0]
