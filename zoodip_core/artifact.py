"""Concept files: embedding and provenance as safetensors, in the forms that other programs read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import StringConstraints, TypeAdapter, ValidationError

from zoodip_core.base_models.families import SD2_WIDTH, Family
from zoodip_core.base_models.vocabulary import TOKEN_PATTERN, check_token_format
from zoodip_core.config import ConceptKind
from zoodip_core.embedding_file import (
    MAX_FILE_BYTES,
    Vectors,
    invalid_artifact,
    read_embedding_file,
    write_embedding_file,
)
from zoodip_core.errors import InvalidTokenError
from zoodip_core.files import write_atomically

Form = Literal["diffusers", "a1111", "comfyui"]

ENCODERS: dict[Family, tuple[str, ...]] = {"sd1": ("clip",), "sd2": ("clip",), "sdxl": ("clip_l", "clip_g")}
_METADATA_KEY = "zoodip"
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


@dataclass(frozen=True, eq=False)
class Concept:
    """A placeholder token with its embedding in each text encoder.

    Attributes:
        token: the placeholder token, such as `<my-dog>`.
        family: model family of the base model.
        embeddings: text encoder → fp32 [vectors, width]; "clip", or "clip_l" and "clip_g" for SDXL.
        kind: "object" or "style".
        base_model: name of the base model; None in files of other programs, as are the next two.
        fingerprint: fingerprint of the base model's files.
        provenance: how the concept was learned.
        weights_fingerprint: fingerprint of the base model's weights in any file layout and half precision; None in
            files of other programs and of zoodip 0.1.
    """

    token: str
    family: Family
    embeddings: dict[str, Vectors]
    kind: ConceptKind = "object"
    base_model: str | None = None
    fingerprint: str | None = None
    provenance: Provenance | None = None
    weights_fingerprint: str | None = None

    def __post_init__(self) -> None:
        check_token_format(self.token)
        if tuple(self.embeddings) != ENCODERS[self.family]:
            expected = f"{', '.join(ENCODERS[self.family])} for {self.family}"
            raise invalid_artifact(f"embeddings of {', '.join(self.embeddings)}", expected)
        shapes = [value.shape for value in self.embeddings.values()]
        if any(len(shape) != 2 or shape[0] != shapes[0][0] or 0 in shape for shape in shapes):
            raise invalid_artifact(
                f"embeddings of shapes {shapes}", "[vectors, width] with the same number of vectors in each"
            )
        for name, value in self.embeddings.items():
            if value.dtype != np.float32 or not np.isfinite(value).all():
                raise invalid_artifact(
                    f"{name!r} with {value.dtype} or non-finite numbers", "finite fp32 numbers"
                )

    @property
    def vectors(self) -> int:
        """Number of embedding rows of the token."""
        return len(next(iter(self.embeddings.values())))

    @property
    def widths(self) -> tuple[int, ...]:
        """Length of an embedding row in each text encoder, in order."""
        return tuple(value.shape[1] for value in self.embeddings.values())

    def provenance_dict(self) -> dict[str, Any] | None:
        """Return the provenance as plain values; None if unknown."""
        if self.provenance is None:
            return None
        return cast("dict[str, Any]", _PROVENANCE.dump_python(self.provenance, mode="json"))


@dataclass(frozen=True)
class _Header:
    """Metadata in the header of the file."""

    token: str
    family: Family
    kind: ConceptKind
    base_model: str | None
    fingerprint: str | None
    provenance: Provenance | None
    weights_fingerprint: str | None = None
    format: Literal[1] = field(default=1)


_HEADER = TypeAdapter(_Header)
_PROVENANCE = TypeAdapter(Provenance)


def save_concept(concept: Concept, path: Path) -> None:
    """Write the concept to `path` atomically, in the form for diffusers with provenance.

    Raises:
        StorageError: the file could not be written.
    """
    write_atomically(path, export_concept(concept, "diffusers"))


def export_concept(concept: Concept, form: Form) -> bytes:
    """Return the content of a safetensors file for a program; each has the provenance in its header.

    SD1 and SD2 have one key: the token for diffusers, `emb_params` for A1111 and ComfyUI. SDXL always has two:
    `clip_l` and `clip_g`. docs/reference/concept-file.md lists what each program reads.
    """
    embeddings = concept.embeddings
    if concept.family != "sdxl":
        embeddings = {concept.token if form == "diffusers" else "emb_params": embeddings["clip"]}
    header = _Header(
        concept.token,
        concept.family,
        concept.kind,
        concept.base_model,
        concept.fingerprint,
        concept.provenance,
        concept.weights_fingerprint,
    )
    values = json.dumps(_HEADER.dump_python(header, mode="json"), sort_keys=True, ensure_ascii=False)
    return write_embedding_file(embeddings, {_METADATA_KEY: values})


def file_name(token: str) -> str:
    """Return the name for an exported file. A1111 and ComfyUI use it as the word in prompts."""
    return f"{token.strip('<>')}.safetensors"


def load_concept(source: Path | bytes, *, token: str | None = None) -> Concept:
    """Read a concept from a safetensors file of zoodip, diffusers, A1111 or ComfyUI.

    Args:
        source: a file or its bytes.
        token: token for the concept; required if the file contains none.

    Raises:
        InvalidArtifactError: the file is missing, a pickle, damaged, or no embedding of one token.
        InvalidTokenError: `token` is malformed, or neither it nor the file gives one.
    """
    embeddings, metadata = read_embedding_file(_read(source))
    family, by_encoder, key = _recognize(embeddings)
    if _METADATA_KEY not in metadata:
        name = token or (key if key and TOKEN_PATTERN.fullmatch(key) else None)
        if name is None:
            raise InvalidTokenError.mismatch(
                "token", got="none in the file", expected="one, such as <my-dog>"
            )
        return Concept(name, family, by_encoder)
    try:
        header = _HEADER.validate_json(metadata[_METADATA_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise invalid_artifact(
            f"a damaged header ({place or _METADATA_KEY}: {first['msg']})", "a valid header"
        ) from error
    concept = Concept(
        header.token,
        header.family,
        by_encoder,
        header.kind,
        header.base_model,
        header.fingerprint,
        header.provenance,
        header.weights_fingerprint,
    )
    return concept if token is None else replace(concept, token=token)


def _read(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise invalid_artifact(f"{source} ({error.strerror})", "a readable file") from error


def _recognize(embeddings: dict[str, Vectors]) -> tuple[Family, dict[str, Vectors], str | None]:
    """Return the family, the embeddings by text encoder, and the key if there is only one."""
    if set(embeddings) == {"clip_l", "clip_g"}:
        return "sdxl", {name: embeddings[name] for name in ENCODERS["sdxl"]}, None
    if len(embeddings) != 1:
        keys = ", ".join(sorted(embeddings)[:5]) or "none"
        raise invalid_artifact(f"{len(embeddings)} tensors ({keys})", "one tensor, or clip_l and clip_g")
    ((key, value),) = embeddings.items()
    return ("sd2" if value.shape[1] == SD2_WIDTH else "sd1"), {"clip": value}, key
