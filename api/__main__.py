"""`python -m api`: run the HTTP API. All deployments start it with this command."""

from __future__ import annotations

import argparse
import sys

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.app import create_app
from api.connections import LimitedConfig, LimitedServer
from api.service import start_service
from zoodip_core.errors import ZoodipError
from zoodip_core.service.logs import configure_process_logs
from zoodip_core.service.settings import ServiceSettings

_GRACE_S = 5  # how long open event streams can delay the shutdown


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exits with 1 and one log line if the service cannot start."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Run the HTTP API.")
    parser.add_argument("--host", help="address to listen on; default: ZOODIP_HOST")
    parser.add_argument("--port", type=int, help="port to listen on; default: ZOODIP_PORT")
    given = parser.parse_args()
    configure_process_logs("INFO")
    log = structlog.get_logger("zoodip.api")
    try:
        settings = ServiceSettings.from_environment()
        configure_process_logs(settings.log_level)
        service = start_service(settings)
    except (ZoodipError, SQLAlchemyError, OSError) as error:
        log.error("startup_failed", error=str(error).partition("\n")[0])  # noqa: TRY400 (one line, no traceback)
        sys.exit(1)
    config = LimitedConfig(
        create_app(settings, service),
        host=given.host or settings.host,
        port=settings.port if given.port is None else given.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    log.info("api_started", host=config.host, port=config.port, max_connections=config.max_connections)
    LimitedServer(config).run()


if __name__ == "__main__":
    main()
