"""Personalizations that a façade creates from an uploaded training file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from api.auth import Caller
from api.decoding.decoder import Decoder
from api.facades.drawing import job_id_of
from api.facades.stored_files import read_file
from api.facades.training_archive import unpacked
from api.idempotent_create import IdempotentCreate, hash_request
from api.requests.bodies import PersonalizationRequest
from api.requests.personalization import PersonalizationSubmission, prepare_creation
from zoodip_core.input_warnings import InputWarning


@dataclass(frozen=True)
class Training:
    """A request of another API that learns a concept.

    Attributes:
        route: method and path, for idempotency.
        key: the Idempotency-Key, or None.
        body: the request, for idempotency.
        file_id: id of the training file.
        translate: returns the native request for the captions of the training file, which are None without any.
        warnings: warnings about fields without effect.
    """

    route: str
    key: str | None
    body: dict[str, Any]
    file_id: str
    translate: Callable[[list[str] | None], PersonalizationRequest]
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
    with unpacked(content, caller.service.settings.image_limits) as images:
        native = training.translate(images.captions)
        submission = PersonalizationSubmission(native, images.files, trace, decoder, training.warnings)
        digests = [file.digest.hexdigest() for file in images.files]
        creation = IdempotentCreate(
            caller, training.route, training.key, hash_request(training.body, digests)
        )
        return job_id_of(creation.run(lambda: prepare_creation(caller, submission)))
