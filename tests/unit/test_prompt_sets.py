"""Prompt sets: `{token}` filled for each concept, errors of bad sets, and the contact sheet."""

from __future__ import annotations

import pytest
from PIL import Image

from zoodip_core.contact_sheet import SheetImage, draw_contact_sheet
from zoodip_core.errors import InvalidInputError
from zoodip_core.grid import BACKGROUND, GAP_PX, LABEL_PX, TILE_PX
from zoodip_core.prompt_sets import fill_prompts

DOG, CAT = "<my-dog>", "<my-cat>"


def test_each_prompt_with_the_placeholder_is_filled_for_each_concept() -> None:
    """Prompts keep their order; one without the placeholder is drawn once, and all occurrences are filled."""
    filled = fill_prompts(["a {token} and a {token}", "a fox", "one {token}"], [DOG, CAT])
    assert [(one.text, one.concept, one.field) for one in filled] == [
        ("a <my-dog> and a <my-dog>", DOG, "prompts[0]"),
        ("a <my-cat> and a <my-cat>", CAT, "prompts[0]"),
        ("a fox", None, "prompts[1]"),
        ("one <my-dog>", DOG, "prompts[2]"),
        ("one <my-cat>", CAT, "prompts[2]"),
    ]


@pytest.mark.parametrize(
    ("templates", "tokens", "message"),
    [
        ([], [], "prompts: got 0 prompts; expected 1 to 64"),
        (["x"] * 65, [], "prompts: got 65 prompts; expected 1 to 64"),
        (["a fox", " "], [], "prompts[1]: got ' '; expected a prompt"),
        (["a fox", "a {tokn}"], [DOG], "prompts[1]: got {tokn}; expected no braces except those of {token}"),
        (["a {token"], [DOG], "prompts[0]: got {; expected no braces except those of {token}"),
        (["a {token}"], [], "concepts: got none; expected at least one, because prompts[0] contains {token}"),
        (["a fox"], [DOG], "concepts: got <my-dog>; expected none, because no prompt contains {token}"),
        (["a {token}"], [DOG, DOG], "concepts[1]: got <my-dog> twice; expected each concept once"),
    ],
)
def test_a_bad_set_has_one_clear_error(templates: list[str], tokens: list[str], message: str) -> None:
    """The error names the field, the value, and what is allowed."""
    with pytest.raises(InvalidInputError) as raised:
        fill_prompts(templates, tokens)
    assert raised.value.message == message


def test_the_contact_sheet_shows_each_image_at_its_place() -> None:
    """Images of a prompt share rows of six, under its text; a wide image keeps its proportions."""
    wide = Image.new("RGB", (64, 32), "red")
    images = [SheetImage.of("a {token}", DOG, seed, wide) for seed in range(7)]
    images.append(SheetImage.of("a fox", None, 0, Image.new("RGB", (64, 64), "blue")))
    sheet = draw_contact_sheet(images)
    row_px = LABEL_PX + TILE_PX + LABEL_PX + GAP_PX
    assert sheet.size == (GAP_PX + 6 * (TILE_PX + GAP_PX), GAP_PX + 3 * row_px)

    def at(column: int, row: int, y: int) -> object:
        left, top = GAP_PX + column * (TILE_PX + GAP_PX), GAP_PX + row * row_px + LABEL_PX
        return sheet.getpixel((left + TILE_PX // 2, top + y))

    middle = TILE_PX // 2
    assert at(5, 0, middle) == at(0, 1, middle) == (255, 0, 0)
    assert at(0, 0, 4) == at(1, 1, middle) == BACKGROUND
    assert at(0, 2, 4) == (0, 0, 255)
