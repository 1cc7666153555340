"""Celery application: receives wake-up messages and controls the worker process."""

from __future__ import annotations

import structlog
from celery.apps import worker as celery_worker
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from worker.process import WorkerProcess
from zoodip_core.errors import ZoodipError
from zoodip_core.service.broker import TASK_NAMES, celery_app
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.logs import configure_process_logs, take_over_library_logs
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import configure_tracing

settings = ServiceSettings.from_environment()
app = celery_app(settings)
app.conf.worker_redirect_stdouts = False
celery_worker.safe_say = lambda *_: None  # its lines about signals are no JSON; the worker logs its own
_processes: list[WorkerProcess] = []


@app.task(name=TASK_NAMES[JobKind.PERSONALIZATION])  # type: ignore[untyped-decorator]
def personalize(_job_id: str) -> None:
    """Wake the engine thread: a personalization is queued."""
    _wake()


@app.task(name=TASK_NAMES[JobKind.GENERATION])  # type: ignore[untyped-decorator]
def generate(_job_id: str) -> None:
    """Wake the engine thread: a generation is queued."""
    _wake()


def _wake() -> None:
    for process in _processes:
        process.engine_loop.wake()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logs(**_: object) -> None:
    """Configure the logs. Celery adds no handlers if this signal has a receiver."""
    configure_process_logs(settings.log_level)


@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: object) -> None:
    configure_tracing(settings.otlp_endpoint, "zoodip-worker")
    try:
        process = WorkerProcess(settings)
    except (ZoodipError, SQLAlchemyError, OSError) as error:
        reason = str(error).partition("\n")[0]
        structlog.get_logger("zoodip.worker").error("startup_failed", error=reason)
        raise SystemExit(1) from None  # Celery ignores other exceptions of signal handlers
    take_over_library_logs()  # those that the engine imported
    _processes.append(process)
    process.start()  # do not wait for the broker: the engine thread also polls the database


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: object) -> None:
    for process in _processes:
        process.drain()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _join(**_: object) -> None:
    while _processes:
        _processes.pop().join()
