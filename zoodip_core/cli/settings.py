"""`zoodip settings`: list the settings of the service with their current values."""

from __future__ import annotations

from pydantic import SecretStr

from zoodip_core.cli.console import print_json, print_table
from zoodip_core.cli.options import JsonOption
from zoodip_core.service.settings import ServiceSettings

_MASKED = frozenset({"bootstrap_key", "webhook_secrets"})


def settings(as_json: JsonOption = False) -> None:
    """List the settings of the service: environment variable, current value and meaning."""
    current = ServiceSettings.from_environment()
    rows = [
        {
            "variable": f"ZOODIP_{name.upper()}",
            "value": _display(name, getattr(current, name)),
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


def _display(name: str, value: object) -> str:
    if value is None or value == ():
        return ""
    if name in _MASKED or isinstance(value, SecretStr):
        return "(set)"
    if name.endswith("_url"):
        return _mask_url(str(value))
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _mask_url(url: str) -> str:
    """Hide possible passwords of a URL: the part before the last @, and the query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    _, at, location = rest.rpartition("@")
    host, query, _ = location.partition("?")
    return f"{scheme}://{'…@' if at else ''}{host}{'?…' if query else ''}"
