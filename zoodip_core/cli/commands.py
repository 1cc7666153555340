"""All commands of `zoodip`. The module of a command is imported when the command runs, so `--help` is fast."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from zoodip_core.errors import ZoodipError


@dataclass(frozen=True)
class _Entry:
    module: str
    summary: str  # first paragraph of the command's help
    needs_service: bool = False  # whether the command needs the packages of the `service` extra


_ENTRIES = {
    "personalize": _Entry("personalize", "Learn a token from images with forward passes only."),
    "generate": _Entry("generate", "Draw images from a prompt or a file of prompts."),
    "inspect": _Entry("inspect", "Show the token, the base model and the provenance of a concept file."),
    "calibrate": _Entry(
        "calibrate",
        "Learn where the tokens of a base model move, for shorter searches. Repeat it to continue after Ctrl-C.",
    ),
    "demo": _Entry(
        "demo", "Learn an unseen subject on the embedded model and compare images before and after."
    ),
    "models": _Entry(
        "models", "List, add, show, verify and remove base models; without a command, list them."
    ),
    "serve": _Entry(
        "serve",
        "Run the API and one worker on this machine; `zoodip settings` lists the settings.",
        needs_service=True,
    ),
    "worker": _Entry(
        "worker",
        "Run a worker for the configured service; start one worker for each GPU.",
        needs_service=True,
    ),
    "migrate": _Entry("serve", "Migrate the database schema to this version.", needs_service=True),
    "settings": _Entry(
        "settings",
        "List the settings of the service: environment variable, current value and meaning.",
        needs_service=True,
    ),
    "keys": _Entry("keys", "Manage the API keys of the service.", needs_service=True),
}


class LazyCommands(TyperGroup):
    """Group that lists all commands with their summaries and loads the one that runs."""

    def __init__(self, **options: Any) -> None:
        commands = {name: TyperCommand(name, help=entry.summary) for name, entry in _ENTRIES.items()}
        super().__init__(**{**options, "commands": commands})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name of the command, the loaded command and its arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import a command.

    Raises:
        ZoodipError: a service package is not installed.
    """
    entry = _ENTRIES[name]
    try:
        command = getattr(importlib.import_module(f"zoodip_core.cli.{entry.module}"), name)
    except ModuleNotFoundError as error:
        if not entry.needs_service:
            raise
        raise ZoodipError(
            f"zoodip {name}: got no module '{error.name}'; expected the service packages: "
            "pip install 'zoodip[service]'"
        ) from error
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(command)
    return typer.main.get_command(alone)


def all_commands() -> dict[str, Any]:
    """Import every command; return them by name."""
    return {name: load_command(name) for name in _ENTRIES}
