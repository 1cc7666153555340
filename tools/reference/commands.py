"""The page of commands: each with its arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from tools.reference.markdown import GENERATED, code, table
from zoodip_core.cli.commands import all_commands

PAGE = """# Command line

{generated}

This page lists every command of `zoodip` with its arguments and options. `zoodip COMMAND --help` prints the same.

{commands}
"""
KINDS: dict[Any, str] = {int: "whole number", float: "number", str: "text", Path: "path"}


def page() -> str:
    """Return the page."""
    sections = [_section(path, command) for path, command in _commands("zoodip", all_commands())]
    return PAGE.format(generated=GENERATED, commands="\n\n".join(sections))


def _commands(path: str, commands: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all commands of a group and of the groups in it, each with its full name."""
    for name, child in commands.items():
        if hasattr(child, "commands"):
            yield from _commands(f"{path} {name}", child.commands)
        else:
            yield f"{path} {name}", child


def _section(path: str, command: Any) -> str:
    arguments = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    options = ["[OPTIONS]"] if len(arguments) < len(command.params) else []
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", command.help.strip())
    parts = [f"## {path}", text, f"```text\n{' '.join([path, *arguments, *options])}\n```"]
    if command.params:
        rows = [[_name(one), _values(one), _default(one), one.help or ""] for one in command.params]
        parts.append(table(["Name", "Value", "Default", "Meaning"], rows))
    return "\n\n".join(parts)


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    many = "…" if argument.nargs == -1 else ""
    return f"{name}{many}" if argument.required else f"[{name}{many}]"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(_argument(parameter))
    return ", ".join(code(name) for name in [*parameter.opts, *parameter.secondary_opts])


def _values(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.type_descriptor.annotation
    many = ", repeatable" if get_origin(kind) is list else ""
    kind = get_args(kind)[0] if many else kind
    if get_origin(kind) is Literal:
        return ", ".join(code(value) for value in get_args(kind)) + many
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    limits = [f"≥ {low:,}"] if low is not None else []
    limits += [f"≤ {high:,}"] if high is not None else []
    return f"{KINDS[kind]} {', '.join(limits)}".strip() + many


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    shown = "" if default is None or isinstance(default, bool | list | tuple) else code(str(default))
    variable = f"`${parameter.envvar}`" if parameter.envvar else ""
    return " or ".join(part for part in (variable, shown) if part)
