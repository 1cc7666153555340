"""`zoodip settings`: what can be set, what is, and why."""

from __future__ import annotations

from pydantic import SecretStr

from zoodip_core.cli.console import print_json, print_table
from zoodip_core.cli.options import JsonOption
from zoodip_core.service.settings import ServiceSettings

_MASKED = frozenset({"bootstrap_key", "webhook_secrets"})


def settings(as_json: JsonOption = False) -> None:
    """List the service's settings: environment variable, value in force, meaning."""
    current = ServiceSettings.from_environment()
    rows = [
        {
            "variable": f"ZOODIP_{name.upper()}",
            "value": _shown(name, getattr(current, name)),
            "meaning": field.description or "",
        }
        for name, field in ServiceSettings.model_fields.items()
    ]
    if as_json:
        print_json({"settings": rows})
    else:
        print_table(
            ["variable", "value", "meaning"],
            [[row["variable"], row["value"], row["meaning"]] for row in rows],
        )


def _shown(name: str, value: object) -> str:
    if value is None or value == ():
        return ""
    if name in _MASKED or isinstance(value, SecretStr):
        return "(set)"
    if name.endswith("_url"):
        return _masked(str(value))
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _masked(url: str) -> str:
    """The URL without what may be a password: all before the last @, and the query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    _, at, place = rest.rpartition("@")
    host, asked, _ = place.partition("?")
    return f"{scheme}://{'…@' if at else ''}{host}{'?…' if asked else ''}"
