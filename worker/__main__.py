"""`python -m worker`: start one worker process."""

from __future__ import annotations

import sys

import structlog

from zoodip_core.errors import ZoodipError
from zoodip_core.service.logs import configure_process_logs


def main() -> None:
    """Run the worker until SIGTERM. Exits with 1 and one log line if it cannot start."""
    configure_process_logs("INFO")
    try:
        from worker.app import app  # reads the settings
    except ZoodipError as error:
        structlog.get_logger("zoodip.worker").error("startup_failed", error=error.message)
        sys.exit(1)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=2",  # a wake-up takes microseconds; the jobs run on the engine thread
            "--loglevel=WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    main()
