"""`options`: the selected base model. Other options of A1111 cannot be changed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api import serializers
from api.auth import Caller, Reader, Writer
from api.facades.a1111.current_model import CHECKPOINT, current_model, select_model
from api.facades.a1111.errors import A1111Route
from api.facades.ignored_fields import ignored
from api.middleware import MAX_JSON_BYTES

router = APIRouter(prefix="/sdapi/v1", route_class=A1111Route, include_in_schema=False)


@router.get("/options")
def get(caller: Reader) -> dict[str, Any]:
    """Return the selected base model and the fixed options."""
    return _options(caller)


@router.post("/options", max_body_size=MAX_JSON_BYTES)
def change(caller: Writer, body: dict[str, Any]) -> dict[str, Any]:
    """Select a base model. Clients may send all options back; changes of others are listed in the warnings."""
    current = _options(caller)
    name = body.get(CHECKPOINT)
    if name:
        select_model(caller, str(name))
    changed = [key for key, value in body.items() if key != CHECKPOINT and current.get(key) != value]
    return {"warnings": [serializers.warning(ignored(key)).model_dump() for key in changed]}


def _options(caller: Caller) -> dict[str, Any]:
    name = current_model(caller)
    facts = caller.service.base_models.complete_facts(name)
    return {
        CHECKPOINT: name,
        "sd_checkpoint_hash": "" if facts is None else facts.fingerprint,
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
    }
