"""Structured logs: one JSON object per line on stderr, with the ids bound to the thread or task."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from types import TracebackType
from typing import TextIO, cast

import structlog

from zoodip_core.service.log_throttle import LogThrottle


class _BestEffortStream:
    """Stream that drops what it cannot write, for example to a full disk. A log failure must not stop the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write the text, or drop it on an error."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream; ignore errors."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logs(level: str) -> None:
    """Configure structlog for this process.

    Args:
        level: Lowest level to log: DEBUG, INFO, WARNING or ERROR.
    """
    structlog.configure(
        processors=[
            *_facts(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(_stream()),
        cache_logger_on_first_use=False,
    )


def configure_process_logs(level: str) -> None:
    """Configure structlog, and give the same form to all other output of a service process.

    This includes the logs of libraries, Python warnings and uncaught exceptions. Libraries log from WARNING on.

    Args:
        level: Lowest level to log: DEBUG, INFO, WARNING or ERROR.
    """
    configure_logs(level)
    handler = logging.StreamHandler(_stream())
    handler.addFilter(LogThrottle())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(["suppressed"])],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_facts(),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    take_over_library_logs()


def take_over_library_logs() -> None:
    """Remove the handlers that libraries gave to their loggers on import, so that their logs are JSON, too."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def _facts() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _stream() -> TextIO:
    return cast("TextIO", _BestEffortStream(sys.stderr))


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    structlog.get_logger("zoodip").error("uncaught_exception", exc_info=(kind, error, traceback))
