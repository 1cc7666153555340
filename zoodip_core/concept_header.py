"""Header of a concept file: the token, its base model and the provenance of its embedding."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

from pydantic import StringConstraints, TypeAdapter, ValidationError

from zoodip_core.base_models.families import Family
from zoodip_core.config import ConceptKind
from zoodip_core.embedding_file import invalid_artifact

METADATA_KEY = "zoodip"
"""Key of the header in the metadata of the safetensors file."""

# Any name, because a newer version can have more precisions; short and printable, because databases store it.
PrecisionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+/-]{1,20}$")]


@dataclass(frozen=True)
class Provenance:
    """Provenance of a concept: enough to repeat its search."""

    initializer: str
    settings: dict[str, Any]  # resolved settings, as `PersonalizationSettings` accepts them
    seed: int
    steps: int  # completed
    forwards: int
    precision: PrecisionName  # of the base model during the search, as `PartPrecisions` prints it
    images: int
    fixed_loss_start: float | None
    fixed_loss_end: float | None
    versions: dict[str, str]  # package → version
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Header:
    """Metadata in the header of a concept file; `token` is None if a file of another program names none."""

    token: str | None
    family: Family
    kind: ConceptKind = "object"
    base_model: str | None = None
    fingerprint: str | None = None
    provenance: Provenance | None = None
    weights_fingerprint: str | None = None
    format: Literal[1] = field(default=1)

    @classmethod
    def parse(cls, text: str) -> Header:
        """Parse the JSON text of a header.

        Raises:
            InvalidArtifactError: the text is not valid; the message names the field.
        """
        try:
            return _HEADER.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise invalid_artifact(
                f"a damaged header ({place or METADATA_KEY}: {first['msg']})", "a valid header"
            ) from error

    def to_json(self) -> str:
        """Return the JSON text, with sorted keys so that equal concepts give equal files."""
        return json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the metadata as plain values."""
        return cast("dict[str, Any]", _HEADER.dump_python(self, mode="json"))


_HEADER = TypeAdapter(Header)
