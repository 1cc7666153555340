"""Lists that clients read when they connect: base models, samplers, embeddings, and lists without entries."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Reader
from api.facades.a1111.current_model import current_model
from api.facades.a1111.errors import A1111Route
from api.facades.a1111.infotext import HASH_CHARACTERS
from api.facades.a1111.samplers import SAMPLERS, SCHEDULES
from zoodip_core.service import concepts

router = APIRouter(prefix="/sdapi/v1", route_class=A1111Route, include_in_schema=False)

MAX_LISTED = 1000
"""Newest concepts of an owner that are listed as embeddings."""


@router.get("/sd-models")
def sd_models(caller: Reader) -> list[dict[str, Any]]:
    """Return the base models; the title of each is its name in the catalog."""
    found = []
    for entry in caller.service.base_models.catalog.entries:
        facts = caller.service.base_models.complete_facts(entry.name)
        fingerprint = None if facts is None else facts.fingerprint
        found.append(
            {
                "title": entry.name,
                "model_name": entry.name,
                "hash": fingerprint and fingerprint[:HASH_CHARACTERS],
                "sha256": fingerprint,
                "filename": entry.name,
                "config": None,
            }
        )
    return found


@router.get("/samplers")
def samplers(caller: Reader) -> list[dict[str, Any]]:
    """Return the samplers."""
    return [
        {"name": name, "aliases": list(aliases), "options": {}} for name, (_, aliases) in SAMPLERS.items()
    ]


@router.get("/schedulers")
def schedulers(caller: Reader) -> list[dict[str, Any]]:
    """Return the schedule types."""
    facts = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}
    return [{"name": name.lower(), "label": name, **facts} for name in SCHEDULES]


@router.get("/embeddings")
def embeddings(caller: Reader) -> dict[str, Any]:
    """Return the owner's concepts by bare name: those of the selected base model, and the others as skipped."""
    selected = current_model(caller)
    with caller.service.database.read() as connection:
        found, _ = concepts.list_page(connection, caller.owner, limit=MAX_LISTED)
    listed: dict[str, dict[str, Any]] = {"loaded": {}, "skipped": {}}
    for concept in found:
        facts = caller.service.base_models.complete_facts(concept.base_model)
        listed["loaded" if concept.base_model == selected else "skipped"][concept.token.strip("<>")] = {
            "step": None,
            "sd_checkpoint": concept.fingerprint[:HASH_CHARACTERS],
            "sd_checkpoint_name": concept.base_model,
            "shape": None if facts is None else facts.widths[0],
            "vectors": concept.vectors,
        }
    return listed


@router.get("/upscalers")
def upscalers(caller: Reader) -> list[dict[str, Any]]:
    """Return the entry that clients expect first; there are no upscalers."""
    return [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1}]


@router.get("/sd-vae")
@router.get("/sd-modules")
@router.get("/latent-upscale-modes")
@router.get("/loras")
@router.get("/hypernetworks")
def none(caller: Reader) -> list[dict[str, Any]]:
    """Return an empty list: the service has none of these."""
    return []


@router.get("/scripts")
def scripts(caller: Reader) -> dict[str, list[str]]:
    """Return no scripts."""
    return {"txt2img": [], "img2img": []}


@router.get("/cmd-flags")
def cmd_flags(caller: Reader) -> dict[str, bool]:
    """Return the only flag that clients need."""
    return {"api": True}


@router.get("/memory")
def memory(caller: Reader) -> dict[str, Any]:
    """Return no figures, in the form that A1111 uses when it cannot measure."""
    unknown = {"error": "the models are in other processes; GET /metrics has their memory"}
    return {"ram": unknown, "cuda": unknown}
