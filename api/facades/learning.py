"""Personalizations that a façade creates from an uploaded training file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fastapi import Request

from api.auth import Caller
from api.decoding.decoder import Decoder
from api.facades.drawing import job_id_of
from api.facades.stored_files import read_file
from api.idempotent_create import IdempotentCreate, hash_request
from api.requests.bodies import PersonalizationRequest
from api.requests.personalization import prepare_creation
from api.requests.reference_files import ReferenceFile
from api.requests.resolved_personalization import PersonalizationSubmission
from zoodip_core.images import ImageArchive
from zoodip_core.input_warnings import InputWarning

_FIELD = "training_file"


@dataclass(frozen=True)
class Training:
    """A request of another API that learns a concept.

    Attributes:
        route: method and path, for idempotency.
        key: the Idempotency-Key, or None.
        body: the request, for idempotency.
        file_id: id of the training file.
        translate: returns the native request. Its captions replace those of the training file.
        warnings: warnings about fields without effect.
    """

    route: str
    key: str | None
    body: dict[str, Any]
    file_id: str
    translate: Callable[[], PersonalizationRequest]
    warnings: tuple[InputWarning, ...]


async def learn(request: Request, caller: Caller, training: Training) -> str:
    """Create the personalization and return its id.

    Raises:
        NotFoundError: The caller has no such training file.
        ZoodipError, RequestValidationError: The request or the training file is not valid.
    """
    service, trace = caller.service, request.state.traceparent
    slot = service.upload_slots.open(caller.owner, is_only_owner=caller.key is None)
    async with slot, service.decoders.reserve(caller.owner) as decoder:
        return await service.upload_slots.run(caller.owner, _create, caller, training, trace, decoder)


def _create(caller: Caller, training: Training, trace: str | None, decoder: Decoder) -> str:
    content = read_file(caller, training.file_id)
    limits = caller.service.settings.image_limits
    images = ImageArchive(BytesIO(content), training.file_id, limits, _FIELD).images()
    files = [ReferenceFile(image.name, image.read, caption=image.caption) for image in images]
    submission = PersonalizationSubmission(training.translate(), files, trace, training.warnings)
    request_hash = hash_request(training.body, [hashlib.sha256(content).hexdigest()])
    creation = IdempotentCreate(caller, training.route, training.key, request_hash)
    return job_id_of(creation.run(lambda: prepare_creation(caller, submission, decoder)))
