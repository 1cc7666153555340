"""Write the pictures of the browser page in docs/images/: `python -m tools.screenshots` (needs Chromium).

It starts a service, teaches the demo's subject with the default settings and draws with it.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tools.page_browser import find_chromium, launch, serve

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/images"
_DESKTOP, _FORM, _PHONE = (1100, 760), (1100, 950), (375, 1000)
_PLACES = ("in the snow", "on the grass", "on white", "by a brick wall")
_LEARNED_MS = 1_800_000
_COLORS = 256  # a palette makes the files less than half as large


def main() -> None:
    """Take all screenshots."""
    executable = find_chromium()
    if executable is None:
        raise SystemExit("chromium: got none; expected an installed Chromium or Chrome")
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as url, sync_playwright() as playwright:
        browser = launch(playwright, executable)
        page = browser.new_page(reduced_motion="reduce")
        expect.set_options(timeout=60_000)
        page.goto(url)
        _take_all(page)
        browser.close()


def _take_all(page: Page) -> None:
    page.set_input_files("#photo-files", sorted((ROOT / "zoodip_core/assets/demo").glob("*.png")))
    for number, place in enumerate(_PLACES, 1):
        page.get_by_label(f"Caption of reference-{number}.png").fill(place)
    page.get_by_label("Name in prompts").fill("my-turtle")
    page.get_by_label("Closest ordinary word").press_sequentially("turtle")
    expect(page.locator("#cost")).to_contain_text("evaluations")
    page.locator("h1:visible").click()  # closes the list of suggestions
    _take(page, "page-learn", _FORM)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#job-status")).to_have_text("succeeded", timeout=_LEARNED_MS)
    expect(page.locator("#unfinished")).to_be_hidden()
    _take(page, "page-learned", _DESKTOP)
    page.get_by_role("button", name="Draw with it").click()
    page.get_by_role("textbox", name="Prompt").fill("a photo of a <my-turtle> in the snow")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator(".pictures img[src]")).to_have_count(4)
    _take(page, "page-draw-dark", _DESKTOP, dark=True)
    _take(page, "page-draw-phone", _PHONE)


def _take(page: Page, name: str, size: tuple[int, int], *, dark: bool = False) -> None:
    """Write a screenshot with a palette."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.mouse.move(0, 0)  # so that no button looks pressed
    page.evaluate("scrollTo(0, 0)")
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        palette = taken.convert("RGB").quantize(_COLORS, kmeans=3, dither=Image.Dither.NONE)
        palette.save(FOLDER / f"{name}.png", optimize=True)
    print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
