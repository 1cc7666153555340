"""PNG files of generated images: the mark that they are generated, and the metadata that reproduces them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SourceType = Literal["trainedAlgorithmicMedia", "compositeSynthetic"]

_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP_KEYWORD = "XML:com.adobe.xmp"
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
IMAGE_FIELDS = {"prompt", "seed", "n"}
"""Settings of a generation that have a chunk of their own, or do not change an image."""


@dataclass(frozen=True, kw_only=True)
class GenerationFacts:
    """Metadata of a generated PNG.

    Attributes:
        prompt: the prompt as it was drawn; every token has the spelling of its concept.
        seed: the seed of this image.
        base_model: name of the base model in the catalog.
        fingerprint: fingerprint of its weights.
        concepts: token → id of each concept that the prompts contain; the command line records None.
        settings: all other settings of the generation.
    """

    prompt: str
    seed: int
    base_model: str
    fingerprint: str
    concepts: Mapping[str, str | None]
    settings: Mapping[str, Any]


def encode_generated(image: Image.Image, facts: GenerationFacts) -> bytes:
    """Encode a generated image as marked PNG with its metadata in text chunks.

    Args:
        image: the image.
        facts: metadata; each field becomes the chunk of its name, `concepts` and `settings` are JSON.
    """
    info = _mark("trainedAlgorithmicMedia")
    info.add_itxt("prompt", facts.prompt)
    info.add_text("seed", str(facts.seed))
    info.add_text("concepts", json.dumps(dict(facts.concepts)))
    info.add_text("settings", json.dumps(dict(facts.settings)))
    info.add_text("base_model", facts.base_model)
    info.add_text("fingerprint", facts.fingerprint)
    return _encode(image, info)


def encode_marked(image: Image.Image, source_type: SourceType = "trainedAlgorithmicMedia") -> bytes:
    """Encode an image as PNG with the mark that it is generated, and no other metadata.

    Args:
        image: the image.
        source_type: "compositeSynthetic" for a grid that also shows other images.
    """
    return _encode(image, _mark(source_type))


def _mark(source_type: SourceType) -> PngInfo:
    """Return an XMP packet with IPTC's digital source type, which other programs read as "made with AI".

    Source: IPTC Photo Metadata Standard, Digital Source Type; XMP Specification Part 3, PNG.
    """
    info = PngInfo()
    info.add_itxt(_XMP_KEYWORD, _XMP.format(source_type=_SOURCE_TYPES + source_type))
    return info


def _encode(image: Image.Image, info: PngInfo) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
