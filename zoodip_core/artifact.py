"""Concept files: embedding and provenance as safetensors, in the forms that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoodip_core.base_models.families import SD2_WIDTH, Family
from zoodip_core.base_models.vocabulary import check_token_format
from zoodip_core.concept_header import METADATA_KEY, Header, Provenance
from zoodip_core.config import ConceptKind
from zoodip_core.embedding_file import (
    Vectors,
    invalid_artifact,
    read_embedding_file,
    write_embedding_file,
)
from zoodip_core.errors import InvalidTokenError
from zoodip_core.files import write_atomically
from zoodip_core.prompt_tokens import normalized_token, token_of_file_name

Form = Literal["diffusers", "a1111", "comfyui"]

ENCODERS: dict[Family, tuple[str, ...]] = {"sd1": ("clip",), "sd2": ("clip",), "sdxl": ("clip_l", "clip_g")}
_UNNAMED_KEYS = (None, "emb_params", "*")  # A1111's keys, which name no token


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


@dataclass(frozen=True, eq=False)
class ConceptFile:
    """Content of a concept file. Its token may be missing, or spelled in another way.

    Attributes:
        header: metadata; its token is spelled as in the file.
        embeddings: as in `Concept`.
        stem: name of the file without its extension; None if unknown.
    """

    header: Header
    embeddings: dict[str, Vectors]
    stem: str | None

    @property
    def token(self) -> str | None:
        """The token in the file in its normal spelling, or else the name of the file; None if both give none."""
        name = self.header.token
        if name is not None:
            return normalized_token(name) or token_of_file_name(name)
        return None if self.stem is None else token_of_file_name(self.stem)

    @property
    def is_respelled(self) -> bool:
        """Whether the file contains a token in another than its normal spelling."""
        return self.header.token not in (None, self.token)

    def concept(self, token: str | None = None) -> Concept:
        """Return the concept with the given token, or else with that of the file.

        Raises:
            InvalidTokenError: `token` is malformed, or neither it nor the file gives one.
        """
        chosen = self.token if token is None else token
        if chosen is None:
            raise InvalidTokenError.mismatch(
                "token", got="none in the file", expected="one, such as <my-dog>"
            )
        facts = self.header
        return Concept(
            chosen,
            facts.family,
            self.embeddings,
            facts.kind,
            facts.base_model,
            facts.fingerprint,
            facts.provenance,
            facts.weights_fingerprint,
        )


def save_concept(concept: Concept, path: Path) -> None:
    """Write the concept to `path` atomically, in the form for diffusers with provenance.

    Raises:
        StorageError: the file could not be written.
    """
    write_atomically(path, export_concept(concept, "diffusers"))


def export_concept(concept: Concept, form: Form) -> bytes:
    """Return the content of a safetensors file for a program; each has the provenance in its header.

    SD1 and SD2 have one key: the token for diffusers, `emb_params` for A1111 and ComfyUI. SDXL always has two:
    `clip_l` and `clip_g`. A single vector under the token is [width], which all four programs read; InvokeAI takes
    the first axis of such a tensor as the width. docs/reference/concept-file.md lists what each program reads.
    """
    embeddings = concept.embeddings
    if concept.family != "sdxl":
        embeddings = _under_one_key(concept.token, embeddings["clip"], form)
    header = Header(
        concept.token,
        concept.family,
        concept.kind,
        concept.base_model,
        concept.fingerprint,
        concept.provenance,
        concept.weights_fingerprint,
    )
    return write_embedding_file(embeddings, {METADATA_KEY: header.to_json()})


def file_name(token: str) -> str:
    """Return the name for an exported file. A1111, ComfyUI and InvokeAI use it as the word in prompts."""
    return f"{token.strip('<>')}.safetensors"


def load_concept(source: Path | bytes, *, token: str | None = None) -> Concept:
    """Read a concept from a safetensors file of zoodip, diffusers, A1111 or ComfyUI.

    Args:
        source: a file or its bytes.
        token: token for the concept. By default it is the token in the file in its normal spelling, or else the
            name of the file.

    Raises:
        InvalidArtifactError: the file is missing, a pickle, damaged, or no embedding of one token.
        InvalidTokenError: `token` is malformed, or neither it nor the file gives one.
    """
    return read_concept_file(source).concept(token)


def read_concept_file(source: Path | bytes, *, stem: str | None = None) -> ConceptFile:
    """Read a concept file whose token may be missing, or spelled in another way.

    Args:
        source: a file or its bytes.
        stem: name of the file without its extension; by default that of `source`.

    Raises:
        InvalidArtifactError: as `load_concept`.
    """
    embeddings, metadata = read_embedding_file(source)
    family, by_encoder, key = _recognize(embeddings)
    header = Header(None if key in _UNNAMED_KEYS else key, family)
    if METADATA_KEY in metadata:
        header = Header.parse(metadata[METADATA_KEY])
    return ConceptFile(header, by_encoder, source.stem if isinstance(source, Path) else stem)


def _under_one_key(token: str, vectors: Vectors, form: Form) -> dict[str, NDArray[np.float32]]:
    if form != "diffusers":
        return {"emb_params": vectors}
    return {token: vectors[0] if len(vectors) == 1 else vectors}


def _recognize(embeddings: dict[str, Vectors]) -> tuple[Family, dict[str, Vectors], str | None]:
    """Return the family, the embeddings by text encoder, and the key if there is only one."""
    if set(embeddings) == {"clip_l", "clip_g"}:
        return "sdxl", {name: embeddings[name] for name in ENCODERS["sdxl"]}, None
    if len(embeddings) != 1:
        keys = ", ".join(sorted(embeddings)[:5]) or "none"
        raise invalid_artifact(f"{len(embeddings)} tensors ({keys})", "one tensor, or clip_l and clip_g")
    ((key, value),) = embeddings.items()
    return ("sd2" if value.shape[1] == SD2_WIDTH else "sd1"), {"clip": value}, key
