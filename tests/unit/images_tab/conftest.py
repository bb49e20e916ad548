"""The pages with canned documents in a headless Chromium, one for a file of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser import browse
from tests.gallery import server

PROJECT = Path(__file__).parents[3]
ARTEFACTS = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "images-tab"


@pytest.fixture
def gallery():
    with server.gallery() as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    with browse("about:blank") as page:
        page.listen()
        yield page


@pytest.fixture
def page(browser):
    """A page as large as a tab in a window of 1500 by 950 pixels; nothing may go wrong in it."""
    browser.resize(1112, 676)
    browser.prefer(color_scheme="light", reduced_motion="no-preference")
    yield browser
    complaints = browser.complaints()
    browser.visit("about:blank#")
    assert complaints == []


@pytest.fixture(scope="session")
def artefacts():
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS
