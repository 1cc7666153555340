"""`zoodip personalize` says which images it read, which files it skipped and which captions it used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tooling.pictures import file_of, halves
from zoodip_core.cli.reference_images import CaptionedImages, read_captioned_images
from zoodip_core.errors import InvalidInputError
from zoodip_core.images import Crop, ImageLimits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with three images, two captions and a file of another format."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(file_of(halves()))
    (tmp_path / "a.txt").write_text("a photo of a <cat> on a blue ground\n")
    (tmp_path / "b.txt").write_text("a dog\n")
    (tmp_path / "d.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    return tmp_path


def _read(folder: Path, token: str, captions: list[str] | None = None) -> CaptionedImages:
    return read_captioned_images(
        [folder], token=token, kind="object", captions=captions, limits=ImageLimits()
    )


def test_captions_of_text_files_are_used_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A caption with the token is used; other images get a template, and the unused file is named."""
    read = _read(folder, "<cat>")
    assert read.captions == (
        "a photo of a <cat> on a blue ground",
        "a photo of a <cat>",
        "a photo of a <cat>",
    )
    assert capsys.readouterr().err.splitlines() == [
        "read 3 images: a.png, b.png, c.png",
        "skipped 1 file: d.jxl (JPEG XL)",
        "warning: captions: the text file of b.png is not used; it does not contain <cat>",
        "captions: from text files",
        "  a.png: a photo of a <cat> on a blue ground",
        "  b.png: a photo of a <cat>",
        "  c.png: a photo of a <cat>",
    ]
    assert read.report == {
        "images": ["a.png", "b.png", "c.png"],
        "skipped": ["d.jxl (JPEG XL)"],
        "captions": list(read.captions),
    }


def test_captions_of_the_command_line_win(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text files are ignored when captions are given."""
    given = ["one <cat>", "two <cat>", "three <cat>"]
    assert _read(folder, "<cat>", given).captions == tuple(given)
    shown = capsys.readouterr().err
    assert "captions: from --caption" in shown
    assert "warning" not in shown


def test_templates_are_used_without_a_caption_that_has_the_token(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text files for another subject change nothing, but they are named."""
    read = _read(folder, "<bird>")
    assert read.captions is None
    assert read.report["captions"] is None
    shown = capsys.readouterr().err
    assert "the text file of a.png is not used; it does not contain <bird>" in shown
    assert "captions: from templates" in shown


def test_captions_spell_the_token_in_any_way(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A caption that spells the token as a prompt may do is used; an empty file is named."""
    (folder / "a.txt").write_text("a photo of a &lt;Cat&gt;")
    (folder / "b.txt").write_text("\n")
    assert _read(folder, "<cat>").captions == ("a photo of a &lt;Cat&gt;", *["a photo of a <cat>"] * 2)
    assert "the text file of b.png is not used; it is empty" in capsys.readouterr().err


def test_a_crop_is_cut_out_of_the_named_file(folder: Path) -> None:
    """Other images stay whole."""
    read = read_captioned_images(
        [folder], token="<cat>", kind="object", captions=None, limits=ImageLimits(), crops=["b.png=4,2,40"]
    )
    assert [image.size for image in read.images] == [(64, 48), (40, 40), (64, 48)]
    assert read.images[1].tobytes() == halves().crop((4, 2, 44, 42)).tobytes()
    assert read.crops == [None, Crop(4, 2, 40), None]


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        (["z.png=0,0,40"], "crop: got 'z.png'; expected one file of: a.png, b.png, c.png"),
        (["0,0,40"], "crop: got '0,0,40'; expected FILE=X,Y,SIDE"),
        (["a.png=0,0"], "crop: got '0,0'; expected X,Y,SIDE in pixels"),
        (["a.png=-1,0,40"], "crop: got '-1,0,40'; expected X,Y,SIDE in pixels"),
        (["a.png=0,0,40", "a.png=1,0,40"], "crop: got 'a.png=1,0,40'; expected FILE=X,Y,SIDE, once"),
        (["a.png=40,0,40"], "crop: got x=40, y=0, side=40 for 'a.png'; expected a square"),
    ],
)
def test_bad_crops_are_refused(folder: Path, crops: list[str], message: str) -> None:
    """The message names the option and what is allowed."""
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        read_captioned_images(
            [folder], token="<cat>", kind="object", captions=None, limits=ImageLimits(), crops=crops
        )
