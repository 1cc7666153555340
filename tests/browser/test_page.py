"""The page in Chromium against a running service: learn, draw and delete; errors; reload; two tabs; keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage

SHORT = '{"measure_every": 4, "checkpoint_every": 4, "n": 1, "fixed_rows": 4}'
pytestmark = pytest.mark.slow


def _fill(page: Page, photos: list[Path], name: str, *, steps: int) -> None:
    page.set_input_files("#photo-files", photos)
    page.get_by_label("Name in prompts").fill(name)
    page.get_by_label("Closest ordinary word").fill("turtle")
    page.locator("#learn-more > summary").click()
    page.get_by_role("spinbutton", name="Steps").fill(str(steps))
    page.get_by_label("Other settings, as JSON").fill(SHORT)


def _status(page: Page, status: str) -> None:
    expect(page.locator("#job-status")).to_have_text(status)


def _start_by_request(url: str, photos: list[Path], token: str, *, steps: int) -> str:
    request = (
        f'{{"token": "{token}", "initializer": "turtle", "settings": {{"steps": {steps}, {SHORT[1:-1]}}}}}'
    )
    files = [("images", (photo.name, photo.read_bytes())) for photo in photos]
    answer = httpx2.post(f"{url}/v1/personalizations", data={"request": request}, files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_learn_draw_and_delete(open_page: OpenPage, url: str, photos: list[Path], tmp_path: Path) -> None:
    """A person adds photos, sees the cost, starts, watches, draws, downloads the concept and deletes everything."""
    page = open_page(url)
    _learn(page, photos)
    _draw_and_download(page, tmp_path / "picture.png")
    page.get_by_role("link", name="Concepts").click()
    _rename(page)
    _download_concept(page)
    _delete_all(page)


def _learn(page: Page, photos: list[Path]) -> None:
    """Learn <my-turtle>, with an eye on cost, captions and loss."""
    _fill(page, photos, "my-turtle", steps=12)
    expect(page.locator("#photos li")).to_have_count(3)
    expect(page.locator("#cost")).to_contain_text("24 U-Net evaluations")
    expect(page.locator("#cost")).to_contain_text("MB of weights")
    caption = page.get_by_label("Caption of reference-1.png")
    caption.fill("in the snow " * 5)  # "a photo of a <my-turtle>" is put before it
    expect(page.locator("#photo-warnings")).to_contain_text("does not read 'in the snow in the snow'")
    caption.fill("by my-turtles in the snow in the snow in the snow")  # another word than the new one
    expect(page.locator("#photo-warnings")).to_contain_text("does not read 'snow in the snow in the snow'")
    caption.fill("in the snow")
    page.get_by_role("button", name="Start").click()
    _status(page, "succeeded")
    expect(page.locator("#announcement")).to_have_text("<my-turtle>: succeeded")
    expect(page.locator("#loss canvas")).to_be_visible()
    expect(page.locator("#loss-summary")).to_contain_text("at step 12")
    expect(page.get_by_alt_text("Preview after step 12")).to_have_js_property("naturalWidth", 64)


def _draw_and_download(page: Page, file: Path) -> None:
    """Draw two pictures with the new word, and download one."""
    page.get_by_role("button", name="Draw with it").click()
    prompt = page.get_by_role("textbox", name="Prompt")
    expect(prompt).to_have_value("a photo of a <my-turtle>")
    expect(page.get_by_role("button", name="<my-turtle>")).to_be_visible()  # its chip
    prompt.fill("")
    prompt.press_sequentially("a photo of a <my")
    prompt.press("Tab")  # completes the word
    expect(prompt).to_have_value("a photo of a <my-turtle>")
    page.get_by_label("Images").fill("2")
    page.get_by_role("spinbutton", name="Seed").fill("7")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_alt_text("a photo of a <my-turtle>, seed 8")).to_have_js_property("naturalWidth", 64)
    page.get_by_role("spinbutton", name="Seed").fill("0")
    page.get_by_role("button", name="Same seed again").click()
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("7")
    with page.expect_download() as picture:
        page.get_by_role("button", name="Download the picture with seed 8").click()
    picture.value.save_as(file)
    with Image.open(file) as saved:
        assert saved.size == (64, 64)


def _rename(page: Page) -> None:
    """Rename <my-turtle> to <rex> by keyboard, after a bad name."""
    expect(page.get_by_alt_text("Picture of <my-turtle>")).to_have_js_property("naturalWidth", 64)
    page.get_by_role("button", name="Rename <my-turtle>").press("Enter")
    new_name = page.get_by_label("New name of <my-turtle>")
    expect(new_name).to_be_focused()
    new_name.press_sequentially("Rex")  # replaces the selected text
    new_name.press("Enter")
    expect(page.locator(".rename .error").first).to_contain_text("token: got '<Rex>'; expected <name>")
    expect(new_name).to_be_focused()
    new_name.fill("rex")
    new_name.press("Enter")
    expect(page.get_by_role("button", name="Rename <rex>")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("New name of <rex>").fill("unsaved")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="<rex>")).to_be_visible()
    expect(page.get_by_alt_text("Picture of <rex>")).to_have_js_property("naturalWidth", 64)


def _download_concept(page: Page) -> None:
    """Download <rex> for another program."""
    card = page.locator(".concept").filter(has_text="<rex>")
    card.locator("summary").click()
    with page.expect_download() as concept:
        page.get_by_role("button", name="Download <rex> for A1111").click()
    assert concept.value.suggested_filename == "rex.safetensors"


def _delete_all(page: Page) -> None:
    """Find and delete the concept, then the pictures."""
    card = page.locator(".concept").filter(has_text="<rex>")
    page.get_by_label("Search").fill("dog")
    expect(page.get_by_text("No concept has this name.")).to_be_visible()
    page.get_by_label("Search").fill("re")
    page.get_by_role("button", name="Delete <rex>").click()
    page.keyboard.press("Escape")  # the first press only asks
    page.get_by_role("button", name="Delete <rex>").click()
    page.get_by_role("button", name="Delete <rex>").click()
    expect(card).to_have_count(0)
    page.get_by_role("link", name="Draw").click()
    page.get_by_role("button", name="Delete pictures").click()
    page.get_by_role("button", name="Delete pictures").click()
    expect(page.get_by_text("Your pictures appear here.")).to_be_visible()


def test_reload_and_two_tabs_show_the_same_running_job(
    open_page: OpenPage, url: str, photos: list[Path]
) -> None:
    """A reload keeps progress and loss; what one tab does changes in the other; lost streams catch up."""
    job = _start_by_request(url, photos, "<long>", steps=100_000)
    page = open_page(f"{url}/#job/{job}")
    _status(page, "running")
    expect(page.locator("#loss-summary")).to_contain_text("the start")
    page.reload()
    expect(page.get_by_role("heading", name="<long>")).to_be_visible()
    expect(page.locator("#loss-summary")).to_contain_text("the start")
    expect(page.get_by_alt_text("Preview after step 4", exact=True)).to_be_visible()
    other = open_page(f"{url}/#queue")
    row = other.locator(".job").filter(has_text="<long>")
    expect(row.locator(".status")).to_have_text("running")
    page.get_by_role("button", name="Pause").click()
    _status(page, "paused")
    expect(page.locator("#announcement")).to_have_text("<long>: paused")
    expect(row.locator(".status")).to_have_text("paused")
    row.get_by_role("button").click()
    other.get_by_role("button", name="Resume").click()
    _status(page, "running")
    page.context.set_offline(True)
    other.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # reads the lists
    expect(other.locator("#notice")).to_have_text("The service cannot be reached.")
    httpx2.post(f"{url}/v1/personalizations/{job}/cancel").raise_for_status()
    page.context.set_offline(False)
    _status(other, "cancelled")
    _status(page, "cancelled")
    expect(other.locator("#notice")).to_be_hidden()
    page.get_by_role("button", name="Use these settings again").click()
    expect(page.get_by_label("Name in prompts")).to_have_value("long")
    expect(page.get_by_role("spinbutton", name="Steps")).to_have_value("100000")


def test_keyboard_alone_is_enough(open_page: OpenPage, url: str, photos: list[Path]) -> None:
    """Tab, typing, Enter and Space reach and use every step from the photos to the start."""
    page = open_page(url)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator("#photo-files")).to_be_focused()
        page.keyboard.press("Enter")
    chooser.value.set_files(photos[:1])
    expect(page.locator(".square")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Square, left to right")).to_be_focused()
    for key in ("-", "-", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    moved = page.get_by_label("Square, top to bottom")
    expect(moved).to_be_focused()
    expect(moved).to_have_attribute("aria-valuetext", "3 of 6 px")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Remove reference-1.png")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Size of the square")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Center the square")).to_be_focused()
    for text in ("", "keys", "turtle"):
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="<keys>")).to_be_focused()
    expect(page.locator("#job-warnings")).to_contain_text("its chosen square has 58×58 px")
    _cancel_by_keyboard(page)
    with page.expect_response(re.compile("validate_only")) as checked:
        page.get_by_role("button", name="Use these settings again").press("Enter")
    assert "its chosen square has 58×58 px" in checked.value.json()["warnings"][0]["message"]


def _cancel_by_keyboard(page: Page) -> None:
    """Cancel the job of <keys>. The safe answer of the question has the focus first."""
    page.get_by_role("button", name="Cancel <keys>").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    _status(page, "cancelled")
