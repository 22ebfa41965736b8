"""A real browser (Debian's chromium) against the real pages. Without chromium these tests are skipped, and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from relayweb.processes.catalogues import compile_outdated

if TYPE_CHECKING:  # a conftest is read before Django is set up
    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.support.journeys import Cast

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium fonts-noto-cjk")
    from playwright.sync_api import sync_playwright

    compile_outdated()
    # Playwright's synchronous interface runs an event loop in this thread; Django would refuse to use the database beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def cast(browser: Browser, transactional_db: None) -> Cast:
    from django.core.cache import caches

    from tests.support.journeys import make_cast

    for name in ("default", "process"):
        caches[name].clear()
    return make_cast()


class Window:
    """A browser window that writes down what a reader should never meet: script errors and broken policies."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.base = base
        self.violations: list[str] = []
        self.errors: list[str] = []
        self.foreign: list[str] = []
        context.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('violation ' + e.violatedDirective + ' '"
            " + e.blockedURI))"
        )
        self.page: Page = context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._requested)

    def _note(self, message: Any) -> None:
        if "violation" in message.text or "Content Security Policy" in message.text:
            self.violations.append(message.text)
        elif message.type == "error" and "404" not in message.text:
            self.errors.append(message.text)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.foreign.append(request.url)

    def open(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page

    def sign_in(self, email: str) -> Page:
        from tests.support.journeys import PASSWORD

        self.open("/accounts/login/")
        self.page.fill("#email", email)
        self.page.fill("#password", PASSWORD)
        self.page.press("#password", "Enter")
        self.page.wait_for_url(lambda url: "/accounts/login/" not in url)
        return self.page


@pytest.fixture
def window(browser: Browser, live_server: Any) -> Iterator[Callable[..., Window]]:
    opened: list[Window] = []

    def make(language: str = "en", theme: str = "light", width: int = 1280, height: int = 900, **more: Any) -> Window:
        context = browser.new_context(
            locale=language, color_scheme=theme, viewport={"width": width, "height": height}, **more
        )
        opened.append(Window(context, live_server.url))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()
    assert [one.violations for one in opened if one.violations] == []
    assert [one.errors for one in opened if one.errors] == []
    assert [one.foreign for one in opened if one.foreign] == []
