"""Worker processes that start in a fraction of a second, so that a test can kill hundreds of them.

They are forked from a server process that has imported the worker. They run without Celery, whose messages only wake
a worker: jobs are also found by polling.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from multiprocessing import get_context

from sqlalchemy import select

from worker.process import WorkerProcess
from zoodip_core.service.database import Database
from zoodip_core.service.logs import configure_logs
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import workers

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "tests.integration.support.stub_engine"])


def _run(settings: ServiceSettings, clock: Callable[[float], float] | None) -> None:
    if clock is not None:
        real, started = time.time, time.monotonic()
        time.time = lambda: real() + clock(time.monotonic() - started)
    configure_logs(settings.log_level)
    WorkerProcess(settings).start()
    threading.Event().wait()


class ForkedWorker:
    """Worker process that runs until it is killed.

    Args:
        settings: settings of the service.
        clock: error of the worker's wall clock in seconds, by seconds since its start; a function of a module.
    """

    def __init__(self, settings: ServiceSettings, clock: Callable[[float], float] | None = None) -> None:
        self._process = _CONTEXT.Process(target=_run, args=(settings, clock), daemon=True)
        self._process.start()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def has_reported(self, database: Database) -> bool:
        """Return whether the worker is in the registry."""
        with database.read() as connection:
            ids = connection.execute(select(workers.c.id)).scalars().all()
        return any(f"-{self._process.pid}-" in worker_id for worker_id in ids)

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory is exhausted."""
        self._process.kill()
        self._process.join()
