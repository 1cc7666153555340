"""Prompt sets in the drawing room, and today's usage in the queue."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.integration.support.concepts import emoji_concept
from zoodip_core.grid import TILE_PX

pytestmark = pytest.mark.slow


def test_a_prompt_set_becomes_a_contact_sheet(open_page: OpenPage, url: str, tmp_path: Path) -> None:
    """Lines are prompts, and chosen words fill {token}; the sheet has all pictures; a forgotten word is an error."""
    for token in ("<set-cat>", "<set-dog>"):
        made = httpx2.post(f"{url}/v1/concepts", files={"file": ("x.safetensors", emoji_concept(token))})
        assert made.status_code == 201, made.text
    page = open_page(f"{url}/#draw")
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.fill("a {token} on a beach\na fox")
    page.get_by_label("Images").fill("1")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("concepts: got none")
    for name in ("<set-cat>", "<set-dog>"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Draw", exact=True).click()
    for text in ("a <set-dog> on a beach", "a <set-cat> on a beach", "a fox"):
        expect(page.get_by_alt_text(f"{text}, seed 0")).to_have_js_property("naturalWidth", 64)
    with page.expect_download() as sheet:
        page.get_by_role("button", name="Contact sheet").click()
    sheet.value.save_as(tmp_path / "sheet.png")
    assert Image.open(BytesIO((tmp_path / "sheet.png").read_bytes())).width > 2 * TILE_PX

    page.reload()
    page.get_by_role("button", name="Same seed again").first.click()
    expect(prompt).to_have_value("a {token} on a beach\na fox")
    expect(page.get_by_role("checkbox", name="<set-dog>")).to_be_checked()
    page.get_by_role("link", name="Queue").click()
    expect(page.locator("#usage")).to_contain_text(re.compile(r"Used today \(UTC\): .* \d+ images, "))
