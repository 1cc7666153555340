"""The files of the browser page: vendored ones are unchanged, and every name that a file uses exists."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.page import route
from tools import vendor_page

STATIC = vendor_page.FOLDER.parent
SOURCES = [*STATIC.glob("*.js"), *(STATIC.parent / "templates").glob("*.html")]


def _page() -> str:
    app = FastAPI()
    route.install(app)
    with TestClient(app) as client:
        return client.get("/").text


def test_vendored_files_are_those_of_the_pinned_packages() -> None:
    """Nobody edited a third-party file, and each package brings its license."""
    assert (vendor_page.FOLDER / vendor_page.CHECKSUMS).read_text() == vendor_page.checksums()
    assert all(any("LICENSE" in name for name in package.files) for package in vendor_page.PACKAGES)


def test_the_sprite_has_exactly_the_icons_that_the_page_uses() -> None:
    """No icon is missing, and none is unused."""
    text = "\n".join(source.read_text() for source in SOURCES)
    assert {icon for icon in vendor_page.ICONS if f'"{icon}"' in text} == set(vendor_page.ICONS)
    used = re.findall(r'(?:\bicon|\bbutton)\("([a-z0-9-]+)"', text)
    assert set(used) <= set(vendor_page.ICONS)


def test_scripts_use_only_elements_that_the_page_has() -> None:
    """Every `byId("…")` of a script is an id of the page, and no id appears twice."""
    ids = re.findall(r'\bid="([a-z-]+)"', _page())
    assert len(ids) == len(set(ids))
    used = {
        name
        for source in STATIC.glob("*.js")
        for name in re.findall(r'byId\("([a-z-]+)"\)', source.read_text())
    }
    assert used <= set(ids)


def test_photos_and_zip_files_can_be_chosen() -> None:
    """The dialog for files offers them; a system may not count HEIC photos as images."""
    assert 'accept="image/*,.heic,.heif,.zip"' in _page()


def test_the_page_has_no_inline_script_and_names_no_other_host() -> None:
    """The Content-Security-Policy would refuse them."""
    page = _page()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\s(?:style|on\w+)=", page) == []
    assert re.findall(r'(?:src|href)="(?:https?:)?//', page) == []
    for name in re.findall(r'(?:src|href)="page-files/([^"#]+)', page):
        assert (STATIC / name).is_file(), name


def test_scripts_are_short() -> None:
    """One concept a file."""
    assert [file.name for file in STATIC.glob("*.js") if len(file.read_text().splitlines()) > 250] == []


def test_static_files_are_revalidated() -> None:
    """A browser asks whether a script changed, so an upgrade never mixes two versions."""
    app = FastAPI()
    route.install(app)
    with TestClient(app) as client:
        assert client.get("/page-files/main.js").headers["Cache-Control"] == "no-cache"
        assert client.get("/page-files/../route.py").status_code == 404
        assert (
            client.get(f"/page-files/{Path('vendor/icons.svg')}").headers["Content-Type"] == "image/svg+xml"
        )
