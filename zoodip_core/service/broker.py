"""Celery configuration of API and worker: task names, queues and transport.

A message contains only the id of a job that is ready. The database row is authoritative, so a lost, late or repeated
message neither loses a job nor runs it twice.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis import RedisError

from zoodip_core.service import folder_transport
from zoodip_core.service.background_publisher import BackgroundPublisher
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.settings import ServiceSettings

TASK_NAMES = {JobKind.PERSONALIZATION: "zoodip.personalize", JobKind.GENERATION: "zoodip.generate"}
QUEUES = {JobKind.PERSONALIZATION: "zoodip-personalization", JobKind.GENERATION: "zoodip-generation"}


def celery_app(settings: ServiceSettings) -> Celery:
    """Return the Celery application for these settings."""
    app = Celery("zoodip", set_as_current=False)
    url, options = _transport(settings)
    app.conf.update(
        broker_url=url,
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_acks_late=False,  # leases in the database replace redelivery
        worker_prefetch_multiplier=1,
        task_default_queue=QUEUES[JobKind.PERSONALIZATION],
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES.values()],
        task_routes={TASK_NAMES[kind]: {"queue": QUEUES[kind]} for kind in JobKind},
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_serializer="json",
        accept_content=["json"],
    )
    return app


class WakeUpPublisher:
    """Wakes workers in the background when a job is ready.

    A wake-up may be lost: workers also poll the database, so the job still starts.

    Args:
        app: Celery application of the service.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._publisher = BackgroundPublisher(
            "wake-ups", self._publish, (OperationalError, OSError, RedisError)
        )

    def send(self, kind: JobKind, job_id: str) -> None:
        """Queue a wake-up for a job. Call this after the commit."""
        self._publisher.send((kind, job_id))

    def close(self) -> None:
        """Publish the queued wake-ups."""
        self._publisher.close()

    def _publish(self, message: tuple[JobKind, str]) -> None:
        kind, job_id = message
        self._app.send_task(TASK_NAMES[kind], args=[job_id], queue=QUEUES[kind], retry=False)


def _transport(settings: ServiceSettings) -> tuple[str, dict[str, Any]]:
    if settings.broker_url is not None:
        return settings.broker_url, {
            "socket_connect_timeout": 2,
            "socket_timeout": 10,
            "visibility_timeout": 3600,
        }
    folder = settings.data_dir / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    return folder_transport.URL, {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),  # API and worker share one folder, so in and out are the same
        "control_folder": str(folder / "control"),
        "polling_interval": 0.2,
    }
