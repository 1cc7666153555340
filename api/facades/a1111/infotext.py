"""Descriptions of images as A1111 writes them: the infotext, and the `info` of a response."""

from __future__ import annotations

import json
from typing import Any

from api.facades.a1111.samplers import sampler_name
from zoodip_core.service.jobs.records import JobSnapshot

HASH_CHARACTERS = 10
"""Characters of a fingerprint that A1111 shows as the hash of a model."""


def generation_info(job: JobSnapshot, size_px: tuple[int, int], fingerprint: str | None) -> str:
    """Return the `info` of a succeeded generation: a JSON object as text.

    Args:
        job: the generation.
        size_px: width and height of its images.
        fingerprint: fingerprint of its base model, if known.
    """
    settings, seeds = job.request["settings"], (job.result or {})["seeds"]
    width, height = size_px
    facts: dict[str, Any] = {
        "prompt": settings["prompt"],
        "negative_prompt": settings["negative_prompt"],
        "seed": seeds[0],
        "width": width,
        "height": height,
        "sampler_name": sampler_name(settings["scheduler"]),
        "cfg_scale": settings["guidance_scale"],
        "steps": settings["steps"],
        "batch_size": len(seeds),
        "sd_model_name": job.base_model,
        "sd_model_hash": (fingerprint or "")[:HASH_CHARACTERS],
        "all_prompts": [settings["prompt"]] * len(seeds),
        "all_negative_prompts": [settings["negative_prompt"]] * len(seeds),
        "all_seeds": seeds,
        "index_of_first_image": 0,
        "extra_generation_params": {},
    }
    return json.dumps(facts | {"infotexts": [_infotext(facts | {"seed": seed}) for seed in seeds]})


def png_infotext(chunks: dict[str, str]) -> str:
    """Return the infotext of a PNG: that of A1111, or one from the metadata of this service; empty without both."""
    if "parameters" in chunks:
        return chunks["parameters"]
    if "prompt" not in chunks:
        return ""
    named = {"Seed": "seed", "Model hash": "fingerprint", "Model": "base_model"}
    return f"{chunks['prompt']}\n" + ", ".join(
        f"{label}: {chunks[name][:HASH_CHARACTERS] if name == 'fingerprint' else chunks[name]}"
        for label, name in named.items()
        if name in chunks
    )


def _infotext(facts: dict[str, Any]) -> str:
    negative = f"\nNegative prompt: {facts['negative_prompt']}" if facts["negative_prompt"] else ""
    return (
        f"{facts['prompt']}{negative}\nSteps: {facts['steps']}, Sampler: {facts['sampler_name']}, "
        f"CFG scale: {facts['cfg_scale']}, Seed: {facts['seed']}, Size: {facts['width']}x{facts['height']}, "
        f"Model hash: {facts['sd_model_hash']}, Model: {facts['sd_model_name']}"
    )
