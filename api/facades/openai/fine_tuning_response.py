"""Fine-tuning jobs, events and checkpoints as OpenAI's API returns them."""

from __future__ import annotations

import time
from typing import Any

from api.facades.openai.fine_tuning_request import TRAINING_FILE
from zoodip_core.service.jobs.records import Event, JobSnapshot

_HYPERPARAMETERS = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
_EVENT_PREFIX = "ftevent-"


def job_of(job: JobSnapshot) -> dict[str, Any]:
    """Return a personalization as a fine-tuning job. The fine-tuned model is the id of the concept."""
    result = job.result or {}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "estimated_finish": None if job.eta_s is None else int(time.time() + job.eta_s),
        "status": job.status,
        "model": job.base_model,
        "fine_tuned_model": result.get("concept_id"),
        "organization_id": job.owner,
        "training_file": job.metadata.get(TRAINING_FILE, ""),
        "validation_file": None,
        "result_files": [],
        "trained_tokens": None,
        "seed": job.request["settings"]["seed"],
        "hyperparameters": _HYPERPARAMETERS,
        "method": {"type": "supervised", "supervised": {"hyperparameters": _HYPERPARAMETERS}},
        "metadata": job.metadata,
        "integrations": [],
        "error": job.error and {"code": job.error["code"], "message": job.error["message"], "param": None},
        "token": job.token,
        "step": job.step,
        "total_steps": job.total_steps,
        "warnings": job.request["warnings"],
    }


def event_of(event: Event) -> dict[str, Any]:
    """Return an event of a job. Progress has the type `metrics`."""
    data = event.data
    messages = {
        "status": f"The job is {data.get('status')}.",
        "progress": f"Step {data.get('step')} of {data.get('total_steps')}.",
        "checkpoint": f"The checkpoint of step {data.get('step')} is stored.",
        "preview": f"The preview of step {data.get('step')} is drawn.",
    }
    metrics = {"valid_loss": data["fixed_loss"]} if data.get("fixed_loss") is not None else {}
    return {
        "id": f"{_EVENT_PREFIX}{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": "error" if data.get("error") else "info",
        "message": messages.get(event.type, event.type),
        "type": "metrics" if event.type == "progress" else "message",
        "data": data | metrics,
    }


def event_id(text: str) -> int:
    """Return the number of an event from its id."""
    return int(text.removeprefix(_EVENT_PREFIX))


def checkpoint_of(event: Event) -> dict[str, Any]:
    """Return a stored checkpoint. It resumes its job; images cannot be drawn with it."""
    step = event.data["step"]
    return {
        "id": f"ftckpt-{event.id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(event.created_at),
        "fine_tuned_model_checkpoint": f"{event.job_id}:step-{step}",
        "fine_tuning_job_id": event.job_id,
        "step_number": step,
        "metrics": {"step": step},
    }


def page(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    return {"object": "list", "data": data, "has_more": has_more}
