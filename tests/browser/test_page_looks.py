"""The page for everyone: axe finds no barrier in light and dark, and nothing is wider than a small phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.test_page import _start_by_request

VIEWS = ("learn", "draw", "concepts", "queue")
PHONE = {"width": 375, "height": 740}
pytestmark = pytest.mark.slow


def _barriers(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    grave = [found for found in violations if found["impact"] in ("serious", "critical")]
    return [f"{found['id']}: {node['html']}" for found in grave for node in found["nodes"]]


def test_no_barrier_and_no_overflow_in_any_view(open_page: OpenPage, url: str, photos: list[Path]) -> None:
    """Every view at 375 px, in light and dark, with a job, photos and an error on it."""
    job = _start_by_request(url, photos, "<looks>", steps=8)
    page = open_page(f"{url}/#job/{job}", viewport=PHONE)
    expect(page.locator("#job-status")).to_have_text("succeeded")
    page.get_by_role("button", name="Draw with it").click()
    page.get_by_role("textbox", name="Prompt").fill("<looks> and <nobody>")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator('[data-field="prompt"] .error')).to_be_visible()
    page.set_input_files("#photo-files", photos)
    page.get_by_role("link", name="Learn").click()
    page.get_by_label("Name in prompts").fill("looks")
    page.get_by_label("Closest ordinary word").fill("turtle")
    expect(page.locator('[data-field="token"] .error')).to_contain_text("already used")
    expect(page.get_by_label("Replace my concept of the same name")).to_be_visible()
    page.get_by_role("link", name="Concepts").click()
    page.get_by_role("button", name="Rename <looks>").click()
    page.get_by_label("New name of <looks>").fill("NO")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".rename .error").first).to_be_visible()
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for view in (*VIEWS, f"job/{job}"):
            page.evaluate("address => location.hash = address", view)
            expect(page.locator(f'[data-view="{view.partition("/")[0]}"] h1')).to_be_visible()
            for fold in page.locator("details:visible").all():
                fold.evaluate("fold => fold.open = true")
            width = page.evaluate("document.documentElement.scrollWidth")
            found[scheme, view] = (_barriers(page), width)
    assert {key: value for key, value in found.items() if value != ([], PHONE["width"])} == {}


def test_the_curve_says_where_a_search_ended_early(open_page: OpenPage, url: str) -> None:
    """The marker of `stop="auto"` has words for people who do not see it."""
    page = open_page(f"{url}/#job/per_0")
    page.evaluate(
        "import('/page-files/loss_curve.js').then("
        "({ drawCurve }) => drawCurve(new Map([[0, 1], [10, 0.9]]), 20, 10))"
    )
    expect(page.locator("#loss-summary")).to_have_text(
        "0.9000 at step 10, 10.0 % below the start; ended early at step 10"
    )
    expect(page.locator("#loss canvas")).to_be_visible()
    expect(page.locator("#job-error")).to_contain_text("per_0 does not exist")
