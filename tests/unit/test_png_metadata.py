"""PNG files of generated images carry a mark that programs and people find."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from tests.tooling.pictures import digital_source_type
from zoodip_core.png_metadata import GenerationFacts, SourceType, encode_generated, encode_marked

_FACTS = GenerationFacts(
    prompt="a photo of a <猫> & co",
    seed=7,
    base_model="emoji",
    fingerprint="ab",
    concepts={"<x>": None},
    settings={"steps": 20},
)


@pytest.mark.parametrize("source_type", ["trainedAlgorithmicMedia", "compositeSynthetic"])
def test_an_image_is_marked_as_generated(source_type: SourceType) -> None:
    """The XMP packet names IPTC's digital source type; the pixels are unchanged."""
    image = Image.linear_gradient("L").convert("RGB")
    data = encode_marked(image, source_type)
    assert digital_source_type(data) == source_type
    with Image.open(BytesIO(data)) as stored:
        assert list(stored.text) == ["XML:com.adobe.xmp"]
        assert stored.tobytes() == image.tobytes()


def test_a_generated_image_has_the_mark_and_its_metadata() -> None:
    """The mark does not replace the text chunks that reproduce the image."""
    data = encode_generated(Image.new("RGB", (8, 8)), _FACTS)
    assert digital_source_type(data) == "trainedAlgorithmicMedia"
    with Image.open(BytesIO(data)) as stored:
        assert stored.text["prompt"] == _FACTS.prompt
        assert (stored.text["seed"], stored.text["concepts"]) == ("7", '{"<x>": null}')
        assert stored.text["settings"] == '{"steps": 20}'


def test_the_packet_is_uncompressed_xmp() -> None:
    """XMP in PNG is one uncompressed iTXt chunk; programs that only scan the bytes find it too."""
    data = encode_marked(Image.new("RGB", (8, 8)))
    assert data.count(b"iTXtXML:com.adobe.xmp\0\0\0\0\0<?xpacket begin=") == 1
