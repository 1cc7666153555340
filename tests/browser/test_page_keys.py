"""The page on a service with API keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.integration.support.apis import api_thread
from tests.integration.support.keys import make_key
from zoodip_core.service.database import Database
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.slow


def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(open_page: OpenPage, tmp_path: Path) -> None:
    """A wrong key is refused with a message; the right one survives a reload, and no other tab has it."""
    settings = ServiceSettings(data_dir=tmp_path, log_level="ERROR")
    database = Database(settings.database)
    database.migrate()
    database.close()
    secret = make_key(settings)["Authorization"].removeprefix("Bearer ")
    with api_thread(settings) as url:
        page = open_page(f"{url}/#concepts")
        page.get_by_label("This service needs a key").fill("zd_wrong")
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#key-error")).to_have_text("This API key is unknown or revoked.")
        page.get_by_label("This service needs a key").fill(secret)
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#key")).to_be_hidden()
        page.reload()
        expect(page.get_by_role("button", name="Forget the API key")).to_be_visible()
        expect(page.locator("#key")).to_be_hidden()
        other = open_page(url)
        expect(other.get_by_label("This service needs a key")).to_be_focused()
        other.close()
        page.get_by_role("button", name="Forget the API key").click()
        expect(page.locator("#key")).to_be_visible()
        page.goto("about:blank")
