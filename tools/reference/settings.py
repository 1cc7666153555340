"""The page of settings: those of the service, of a personalization and of a generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tools.reference.markdown import GENERATED, code, table
from zoodip_core.base_models.calibrated_settings import CALIBRATED, FULL_SPACE_ONLY
from zoodip_core.base_models.scheduler_names import SCHEDULERS
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.service.settings import ServiceSettings

PAGE = """# Settings

{generated}

This page lists every setting with its default, the values it takes and its meaning.

## Service

`zoodip serve`, `zoodip worker` and the API read these environment variables. `zoodip settings` prints the values in
force. A variable without a default is unset.

{service}

## Personalization

Set these with `zoodip personalize --set NAME=VALUE`, in `settings` of `POST /v1/personalizations`, or as
`PersonalizationSettings`. The defaults below are those of the paper for SD1.x. With the preset `default`, the
settings of the base model in the catalog replace them.

{personalization}

### Calibrated search

With the preset `default`, a base model with a
[calibration](../how-to/add-a-base-model.md#calibrate-the-search), such as `emoji`, is searched in its calibrated
space. These values then replace those of the family and of the catalog's `settings`:

{calibrated}

The search is in the full space instead if the request or the catalog sets `search_space=full` or several `vectors`.
It is also in the full space if the request sets one of these, which have no effect in the calibrated space.
With `search_space=calibrated` they are refused:
{full_space_only}.

## Generation

These are the options of `zoodip generate`, the fields of `POST /v1/generations` and of `GenerationSettings`. The base
model in the catalog can have its own `steps` and `guidance_scale`.

{generation}

`scheduler` is one of {schedulers}. Names that end with `_karras` use the noise levels of arXiv:2206.00364, Eq. (5).
`guidance_rescale` is that of diffusers (arXiv:2305.08891, Eqs. (15) and (16)). [Prompts](prompts.md) describes
`prompt_syntax` and `long_prompts`. The chunk `settings` of a PNG file records all settings of its generation.
"""
KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true`, `false`",
    "array": "comma-separated text",
}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def page() -> str:
    """Return the page."""
    return PAGE.format(
        generated=GENERATED,
        service=_settings(ServiceSettings, "ZOODIP_"),
        personalization=_settings(PersonalizationSettings),
        calibrated=table(
            ["Setting", "Value"], [[code(name), code(str(value))] for name, value in CALIBRATED.items()]
        ),
        full_space_only=", ".join(code(name) for name in sorted(FULL_SPACE_ONLY)),
        generation=_settings(GenerationSettings),
        schedulers=", ".join(code(name) for name in SCHEDULERS),
    )


def _settings(settings: type[BaseModel], prefix: str = "") -> str:
    rows = []
    for name, schema in settings.model_json_schema()["properties"].items():
        shown = prefix + name.upper() if prefix else name
        meaning = schema.get("description", "")
        rows.append([code(shown), _default(settings, name), _allowed(schema), meaning])
    return table(["Setting", "Default", "Values", "Meaning"], rows)


def _default(settings: type[BaseModel], name: str) -> str:
    field = settings.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value == ():
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return code(shown.replace(str(Path.home()), "~"))


def _allowed(schema: dict[str, Any]) -> str:
    """Return the values that a JSON schema admits."""
    schema = next(one for one in schema.get("anyOf", [schema]) if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    limits = ", ".join(f"{sign} {_number(schema[key])}" for key, sign in BOUNDS.items() if key in schema)
    if "maxLength" in schema:
        limits = f"of at most {schema['maxLength']:,} characters"
    kind = {"path": "path", "password": "secret"}.get(schema.get("format", ""), KINDS[schema["type"]])
    return f"{kind} {limits}".strip()


def _number(value: float) -> str:
    return "2⁶³" if value == 2**63 else f"{value:,g}" if value < 1 else f"{value:,.0f}"
