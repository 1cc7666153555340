"""Photos and fields on the page in Chromium: drop and paste, errors and warnings, the square of a photo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.tooling.archives import zip_of

pytestmark = pytest.mark.slow


def test_photos_can_be_dropped_and_pasted(open_page: OpenPage, url: str) -> None:
    """Both events add their files anywhere on the page; a format that it cannot show has a placeholder."""
    page = open_page(url)
    page.evaluate(
        """for (const [type, name] of [["drop", "a.png"], ["paste", "b.heic"]]) {
            const files = new DataTransfer();
            files.items.add(new File(["no image"], name, { type: "image/png" }));
            const event = type === "drop" ? new DragEvent(type, { dataTransfer: files, bubbles: true })
              : new ClipboardEvent(type, { clipboardData: files, bubbles: true });
            document.querySelector(type === "drop" ? "header" : "#drop").dispatchEvent(event);
        }"""
    )
    expect(page.get_by_label("Caption of a.png")).to_be_visible()
    expect(page.get_by_label("Caption of b.heic")).to_be_visible()
    expect(page.get_by_text("no preview")).to_have_count(2)
    expect(page.get_by_text("Its center is used.")).to_have_count(2)
    expect(page.locator(".square")).to_have_count(0)


def _small_photo_and_archive(folder: Path, photo: Path) -> tuple[Path, Path]:
    """Write a photo of 40×40 px, and a ZIP file with a good photo and the small one."""
    small, archive = folder / "small.png", folder / "photos.zip"
    Image.effect_noise((40, 40), 60).convert("RGB").save(small)
    archive.write_bytes(zip_of(("a.png", photo.read_bytes()), ("b.png", small.read_bytes())))
    return small, archive


def test_errors_and_warnings_appear_at_their_fields(
    open_page: OpenPage, url: str, photos: list[Path], tmp_path: Path
) -> None:
    """A small photo has its warning below it; invalid values have the message of the API at their field.

    A ZIP file has one place for the warnings about its photos.
    """
    small, archive = _small_photo_and_archive(tmp_path, photos[1])
    page = open_page(url)
    page.get_by_label("Closest ordinary word").press_sequentially("turt")
    expect(page.locator("#initializer-hint")).to_contain_text("Splits into")
    expect(page.locator("#words option").first).to_have_attribute("value", "turtle")
    page.get_by_label("Closest ordinary word").fill("turtle")
    expect(page.locator("#initializer-hint")).to_have_text("A single word of the base model.")
    page.set_input_files("#photo-files", [photos[0], archive, small])
    page.get_by_label("Name in prompts").fill("My Turtle")
    name = page.get_by_label("Name in prompts")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.locator('[data-field="token"] .error')).to_contain_text(
        "token: got '<My Turtle>'; expected <name>"
    )
    name.fill("fine")
    expect(page.get_by_label("Warnings about small.png")).to_contain_text("has 40×40 px")
    expect(page.get_by_label("Warnings about photos.zip")).to_contain_text("photo 2: has 40×40 px")
    expect(page.get_by_text("ZIP file, 2 photos")).to_be_visible()
    expect(name).not_to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Remove small.png").click()
    page.locator("#learn-more > summary").click()
    page.get_by_label("Ignore transparent parts of photos").check()
    expect(page.locator("#photo-warnings")).to_contain_text("masked_loss has no effect")
    images_error = page.locator('[data-field="images"] > .error')
    page.get_by_label("Caption of reference-1.png").fill("a photo of <nobody>")
    page.get_by_role("button", name="Start").click()
    expect(images_error).to_contain_text("captions: got some and a ZIP file")
    page.get_by_role("button", name="Remove photos.zip").click()
    expect(page.locator("#photos > li")).to_have_count(1)
    page.get_by_role("button", name="Start").click()
    expect(images_error).to_contain_text("captions[0]")


def test_an_unknown_word_is_named_at_the_prompt(open_page: OpenPage, url: str) -> None:
    """The prompt keeps the focus, so that it can be corrected."""
    page = open_page(url)
    page.get_by_role("link", name="Draw").click()
    page.get_by_role("textbox", name="Prompt").fill("a photo of a <nobody>")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator('[data-field="prompt"] .error')).to_contain_text("got <nobody>")
    expect(page.get_by_role("textbox", name="Prompt")).to_be_focused()


def _wide_photo(file: Path) -> None:
    """Write a photo of 320×160 px, gray on its left half. EXIF turns it, and halves its size in browsers."""
    photo = Image.effect_noise((320, 160), 60).convert("RGB")
    photo.paste((128, 128, 128), (0, 0, 160, 160))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90°
    exif.update({0x011A: 144.0, 0x011B: 144.0, 0x0128: 2})  # 144 px per inch, twice the default
    exif.get_ifd(0x8769).update({0xA002: 80, 0xA003: 160})  # width and height at the default resolution
    photo.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)


def test_a_square_is_moved_by_pointer(open_page: OpenPage, url: str, tmp_path: Path) -> None:
    """The warnings are those of the square; its pixels are those of the upright photo at its full size."""
    _wide_photo(tmp_path / "wide.jpg")
    page = open_page(url)
    page.set_input_files("#photo-files", [tmp_path / "wide.jpg"])
    warnings = page.get_by_label("Warnings about wide.jpg")
    expect(warnings).to_have_text("only its center square is used, 50% is cut off")
    with page.expect_response("**/v1/inspections") as moved:
        assert page.locator(".thumbnail img").evaluate("image => image.naturalWidth") == 160
        box = page.locator(".square").bounding_box() or {}
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(box["x"], middle[1])
        page.mouse.up()
    assert moved.value.json()["images"][0]["crop"] == {"x": 0, "y": 0, "side": 160}
    expect(warnings).to_have_text(
        "its chosen square has nearly one color, #808080; choose a square around the subject"
    )
    page.get_by_label("Size of the square").fill("50")
    page.mouse.click(box["x"] + box["width"] - 1, middle[1])
    expect(warnings).to_have_text(re.compile("^$"))
    page.get_by_role("button", name="Center the square").click()
    expect(warnings).to_have_text("only its center square is used, 50% is cut off")
    page.locator("#learn-more > summary").click()
    page.get_by_label("Make square by").select_option("squash")
    expect(page.locator(".square")).to_be_hidden()
    expect(warnings).to_have_text(re.compile("^$"))
