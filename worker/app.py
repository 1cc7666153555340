"""Celery application: receives wake-up messages and controls the worker process."""

from __future__ import annotations

from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from worker.process import WorkerProcess
from zoodip_core.errors import ZoodipError
from zoodip_core.service.broker import TASK_NAMES, celery_app
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.logs import configure_logs
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tracing import configure_tracing

settings = ServiceSettings.from_environment()
app = celery_app(settings)
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


@worker_init.connect  # type: ignore[untyped-decorator]
def _start(**_: object) -> None:
    configure_logs(settings.log_level)
    configure_tracing(settings.otlp_endpoint, "zoodip-worker")
    try:
        process = WorkerProcess(settings)
    except ZoodipError as error:  # Celery logs exceptions of signal handlers and goes on without a worker
        raise SystemExit(f"error: {error.message}") from error
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
