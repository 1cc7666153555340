"""Fixtures of the browser tests: one Chromium and one running service for each test process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.support.postgresql import missing
from tools.page_browser import find_chromium, launch, serve

_PATIENCE_MS = 60_000  # for a busy machine
expect.set_options(timeout=_PATIENCE_MS)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium; without one the test is skipped, and fails in CI."""
    executable = find_chromium()
    if executable is None:
        missing("Chromium")
    return str(executable)


@pytest.fixture
def browser(chromium: str) -> Iterator[Browser]:
    """Headless Chromium for one test: Playwright's event loop would disturb tests of other modules."""
    with sync_playwright() as playwright:
        running = launch(playwright, chromium)
        yield running
        running.close()


@pytest.fixture(scope="session")
def url(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of `zoodip serve` with the embedded base model and no API key."""
    with serve(tmp_path_factory.mktemp("service"), ZOODIP_LOG_LEVEL="WARNING") as running:
        yield running


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Function that opens an address in a new tab.

    The test fails if a tab has an error in a script, violates the Content-Security-Policy or asks another host.
    """
    faults: list[str] = []
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(_PATIENCE_MS)

    def start(address: str, **options: object) -> Page:
        page = context.new_page()
        host = "/".join(address.split("/")[:3])
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: _note_console(message.type, message.text, faults))
        page.on("request", lambda request: _note_request(request.url, host, faults))
        if options:
            page.set_viewport_size(options["viewport"])  # type: ignore[arg-type]
        page.goto(address)
        return page

    yield start
    context.close()
    assert faults == []


def _note_console(kind: str, text: str, faults: list[str]) -> None:
    is_refusal = "status of 4" in text or "ERR_INTERNET_DISCONNECTED" in text  # Chromium logs each of them
    if kind == "error" and not is_refusal:
        faults.append(text)


def _note_request(address: str, host: str, faults: list[str]) -> None:
    if not address.startswith((host, "blob:", "data:")):
        faults.append(f"asked {address}")


@pytest.fixture
def photos() -> list[Path]:
    """Three of the demo's photos."""
    folder = Path(__file__).parents[2] / "zoodip_core/assets/demo"
    return sorted(folder.glob("reference-*.png"))[:3]
