"""`/v1/inspections`: warnings about reference images, before a personalization is created."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from api import schemas, serializers
from api.auth import Caller, Writer
from api.decoding.decoder import Decoder
from api.problems import problems
from api.requests.bodies import InspectionRequest
from api.requests.json_field import parse_json_field
from api.requests.reference_files import ReferenceFile, download, remote_images, uploaded_images
from api.requests.reference_images import IMAGES_SCHEMA, images_form, inspect_images, read_crops
from api.requests.uploaded_files import Upload
from api.requests.uploads import receive_upload

router = APIRouter(tags=["personalizations"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": IMAGES_SCHEMA,
                        "request": {"$ref": "#/components/schemas/InspectionRequest"},
                    },
                },
                "encoding": {"request": {"contentType": "application/json"}},
            }
        },
    }
}


@router.post(
    "/v1/inspections",
    summary="Inspect reference images",
    response_model=schemas.Inspection,
    responses=problems(408, 413, 415),
    openapi_extra=_BODY,
)
async def inspect(request: Request, caller: Writer) -> Response:
    """Return size, format, used square and warnings of 1 to 16 images. Nothing is stored.

    The warning about small images refers to the default base model.
    """
    slots = caller.service.upload_slots
    async with receive_upload(request, caller, images_form(caller.service, "request")) as upload:
        parsed = _parse(upload)
        remote = remote_images(caller, parsed.image_urls)
        limits = caller.service.settings.image_limits
        files = await slots.run(caller.owner, uploaded_images, upload, limits, len(remote))
        await download(caller, upload, remote)
        files += [image.file for image in remote]
        async with caller.service.decoders.reserve(caller.owner) as decoder:
            return await slots.run(caller.owner, _inspect, caller, decoder, files, parsed)


def _parse(upload: Upload) -> InspectionRequest:
    return (
        parse_json_field(upload, "request", InspectionRequest)
        if "request" in upload.fields
        else InspectionRequest()
    )


def _inspect(
    caller: Caller, decoder: Decoder, files: list[ReferenceFile], request: InspectionRequest
) -> Response:
    crops = read_crops(request.crop, len(files))
    _, facts = caller.service.base_models.facts(None)
    inspected = inspect_images(decoder, files, crops, None if facts is None else facts.side_px)
    images = [
        serializers.inspected_image(file, crop, warnings)
        for crop, (file, warnings) in zip(crops, inspected, strict=True)
    ]
    return serializers.reply(schemas.Inspection(images=images))
