"""The `zoodip` command: registers the subcommands and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

import typer

from zoodip_core import __version__
from zoodip_core.cli.calibrate import calibrate
from zoodip_core.cli.console import EXIT_INTERRUPTED, report, say
from zoodip_core.cli.demo import demo
from zoodip_core.cli.generate import generate
from zoodip_core.cli.inspect import inspect
from zoodip_core.cli.models import models
from zoodip_core.cli.personalize import personalize
from zoodip_core.cli.service_commands import DATABASE_ERRORS, add_service_commands
from zoodip_core.errors import InterruptedSearchError, StorageError, ZoodipError

app = typer.Typer(
    name="zoodip",
    help="Personalize a quantized diffusion model with forward passes only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(personalize)
app.command()(generate)
app.add_typer(models)
app.command()(inspect)
app.command()(calibrate)
app.command()(demo)
add_service_commands(app)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        typer.echo(f"zoodip {__version__}")
        raise typer.Exit


def run() -> None:
    """Run the command line; exit with 2 for invalid input, 1 for another error, 130 after Ctrl-C."""
    as_json = "--json" in sys.argv
    try:
        app()
    except InterruptedSearchError as error:
        report(error, as_json=as_json)
        sys.exit(EXIT_INTERRUPTED)
    except ZoodipError as error:
        sys.exit(report(error, as_json=as_json))
    except DATABASE_ERRORS as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        sys.exit(report(StorageError(f"the database cannot be used: {reason}"), as_json=as_json))
    except OSError as error:
        location = error.filename or "this machine"
        sys.exit(report(StorageError(f"{location}: {error.strerror or error}"), as_json=as_json))
    except SystemExit as error:
        if error.code == EXIT_INTERRUPTED:  # how typer reports Ctrl-C
            say("interrupted")
        raise
