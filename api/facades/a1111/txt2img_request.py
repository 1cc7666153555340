"""Body of `POST /sdapi/v1/txt2img`, and its translation to a native generation."""

from __future__ import annotations

import re
import secrets
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from api.auth import Caller
from api.facades.a1111.current_model import CHECKPOINT, current_model, find_checkpoint
from api.facades.a1111.samplers import find_scheduler
from api.facades.ignored_fields import ignored
from api.facades.image_size import fitted_size
from api.facades.native_request import native_request
from api.idempotent_create import Creation
from api.requests.bodies import GenerationRequest, RequestBody
from api.requests.generation import GenerationOptions, prepare_creation
from zoodip_core.input_warnings import InputWarning
from zoodip_core.prompt_tokens import bracket_names, candidate_tokens
from zoodip_core.service import concepts

JOB_METADATA = {"api": "a1111"}
"""Metadata of generations that this façade creates; `progress` and `interrupt` are about them."""

_DEFAULT_SIDE_PX = 512
_MAX_SEED = 2**32
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)
_NEUTRAL: dict[str, tuple[object, ...]] = {  # values of unsupported fields that ask for nothing
    "subseed": (-1,),
    "seed_resize_from_h": (-1,),
    "seed_resize_from_w": (-1,),
    "s_noise": (1,),
    "eta": (1,),
    "override_settings_restore_afterwards": (True,),
    "do_not_save_samples": (True, False),  # images are stored as those of any generation
    "do_not_save_grid": (True, False),
    "save_images": (True, False),
    "clip_skip": (1,),
    "CLIP_stop_at_last_layers": (1,),
    "sd_vae": ("Automatic", "None"),
    "script_name": ("None",),
}
_NOTHING: tuple[object, ...] = (None, False, 0, "", [], {})


class Txt2ImgRequest(RequestBody):
    """Body of a drawing request. Null means the default. Other fields are accepted and listed in the warnings."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    prompt: str = Field(min_length=1, max_length=2000)
    negative_prompt: str | None = Field(default=None, max_length=2000)
    seed: int | None = Field(default=None, lt=2**63)
    batch_size: int | None = Field(default=None, ge=1, le=64)
    n_iter: int | None = Field(default=None, ge=1, le=64)
    steps: int | None = Field(default=None, ge=1, le=1000)
    cfg_scale: float | None = Field(default=None, ge=0, le=100)
    width: int | None = Field(default=None, ge=1, le=100_000)
    height: int | None = Field(default=None, ge=1, le=100_000)
    sampler_name: str | None = Field(default=None, max_length=100)
    sampler_index: str | None = Field(default=None, max_length=100)
    scheduler: str | None = Field(default=None, max_length=100)
    override_settings: dict[str, Any] | None = None
    send_images: bool | None = None


def prepare_txt2img(caller: Caller, body: Txt2ImgRequest, trace: str | None) -> Creation:
    """Validate a drawing request and return the creation of its generation.

    Raises:
        ZoodipError: A value is not allowed.
    """
    overrides = body.override_settings or {}
    base_model = find_checkpoint(caller, overrides.get(CHECKPOINT) or current_model(caller)).name
    scheduler, warnings = find_scheduler(body.sampler_name or body.sampler_index, body.scheduler)
    size, adjusted = _size(caller, body, base_model)
    prompt, prompt_warnings = _read_prompt(caller, base_model, body.prompt, "prompt")
    negative, negative_warnings = _read_prompt(
        caller, base_model, body.negative_prompt or "", "negative_prompt"
    )
    n = (body.batch_size or 1) * (body.n_iter or 1)
    native = native_request(
        GenerationRequest,
        {"n": "batch_size*n_iter"},
        prompt=prompt,
        negative_prompt=negative,
        n=n,
        size=size,
        steps=body.steps,
        guidance_scale=body.cfg_scale,
        seed=secrets.randbelow(_MAX_SEED - n) if body.seed is None or body.seed < 0 else body.seed,
        scheduler=scheduler,
        prompt_syntax="weighted",
        base_model=base_model,
        metadata=JOB_METADATA,
    )
    warnings += [*adjusted, *prompt_warnings, *negative_warnings, *_ignored_fields(body, overrides)]
    return prepare_creation(caller, native, trace, GenerationOptions(tuple(warnings)))


def _size(caller: Caller, body: Txt2ImgRequest, base_model: str) -> tuple[str | None, list[InputWarning]]:
    if body.width is None and body.height is None:
        return None, []
    facts = caller.service.base_models.complete_facts(base_model)
    side_px = _DEFAULT_SIDE_PX if facts is None else facts.side_px
    return fitted_size(caller.service, base_model, body.width or side_px, body.height or side_px)


def _read_prompt(caller: Caller, base_model: str, text: str, field: str) -> tuple[str, list[InputWarning]]:
    """Return a prompt in which each name of a concept is its token, as embeddings in A1111 have bare names."""
    warnings = []
    if _EXTRA_NETWORK.search(text):
        warnings.append(ignored(field, "extra networks such as <lora:…> are removed from the prompt"))
        text = _EXTRA_NETWORK.sub("", text)
    with caller.service.database.read() as connection:
        found = concepts.find_by_tokens(connection, caller.owner, base_model, candidate_tokens(text))
    return bracket_names(text, found), warnings


def _ignored_fields(body: Txt2ImgRequest, overrides: dict[str, Any]) -> list[InputWarning]:
    """Return a warning for each field that asks for something which the service does not do."""
    extra = body.model_extra or {}
    upscales = bool(extra.get("enable_hr"))
    names = [
        name
        for name, value in extra.items()
        if not _is_neutral(name, value)
        and (upscales or not name.startswith(("hr_", "firstphase_", "denoising_strength")))
    ]
    names += [
        f"override_settings.{name}"
        for name, value in overrides.items()
        if name != CHECKPOINT and not _is_neutral(name, value)
    ]
    return [ignored(name) for name in names]


def _is_neutral(name: str, value: object) -> bool:
    return value in _NOTHING or value in _NEUTRAL.get(name, ())
