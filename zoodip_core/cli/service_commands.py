"""Commands of the service, which need the packages of the `service` extra."""

from __future__ import annotations

from collections.abc import Callable

import typer

from zoodip_core.errors import ZoodipError

DATABASE_ERRORS: tuple[type[Exception], ...]
try:
    from sqlalchemy.exc import SQLAlchemyError
except ModuleNotFoundError:
    DATABASE_ERRORS = ()
else:
    DATABASE_ERRORS = (SQLAlchemyError,)


def add_service_commands(app: typer.Typer) -> None:
    """Add the service commands; if a package is missing, add commands that say how to install it."""
    try:
        from zoodip_core.cli.keys import keys
        from zoodip_core.cli.serve import migrate, serve
        from zoodip_core.cli.settings import settings
        from zoodip_core.cli.worker import worker
    except ModuleNotFoundError as error:
        for name in ("serve", "worker", "migrate", "settings", "keys"):
            options = {"allow_extra_args": True, "ignore_unknown_options": True}
            app.command(name, context_settings=options)(_missing_package_command(name, str(error.name)))
        return
    for command in (serve, worker, migrate, settings):
        app.command()(command)
    app.add_typer(keys)


def _missing_package_command(name: str, module: str) -> Callable[[], None]:
    def fail() -> None:
        """Explain how to install the packages of the `service` extra."""
        raise ZoodipError(
            f"zoodip {name}: got no module '{module}'; expected the service packages: "
            "pip install 'zoodip[service]'"
        )

    return fail
