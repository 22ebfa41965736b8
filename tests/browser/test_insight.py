"""Overview, statistics and what is done with all that the log finds: in both languages, both themes, on a desk and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from delivery import jobs
from delivery.models import Recipient
from delivery.statistics import counting
from tests.browser.looks import in_each_look
from tests.browser.test_accessibility import AXE, IS_WIDER_THAN_THE_WINDOW, RUN_AXE, SPACED_SLANTED_UPPER_CASED, TAGS
from tests.support.journeys import EXAMPLES, Cast, write_examples, write_message


@pytest.fixture(autouse=True)
def _no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker runs here; the tests do the work themselves."""
    from delivery.acceptance import doorbell

    monkeypatch.setattr(doorbell, "ring_for_jobs", lambda: None)


def _visit(window: Any, cast: Cast) -> Iterator[tuple[str, Any]]:
    recipient = Recipient.objects.of(cast.acme).filter(state="deferred").first()
    assert recipient is not None
    message = f"/t/acme/messages/{recipient.message_id}/"
    yield "overview, nothing", window.open("/t/acme/?from=2026-01-01&to=2026-01-02")
    yield "overview", window.open("/t/acme/?days=7")
    yield "statistics", window.open("/t/acme/statistics/?days=7")
    page = window.open("/t/acme/statistics/?days=30&by=credential")
    for table in page.locator("[data-table] > summary").all():
        table.click()
    yield "statistics, tables", page
    yield "statistics of one", window.open("/t/acme/statistics/?only=provider:gmail")
    page = window.open("/t/acme/messages/?provider=gmail&put_off=1")
    page.locator("[data-filters] > details").last.locator("summary").click()
    yield "log, more filters", page
    page = window.open("/t/acme/messages/?recipient=zzz")  # nothing that the open menu would half cover
    page.locator("details[data-menu]").last.locator("summary").click()
    yield "log, all found", page
    yield "filter, save", window.open("/t/acme/messages/filters/save/?state=bounced")
    page.fill("#id_name", "不達")
    page.click("form.rw-form button.btn-primary")
    page.wait_for_url(lambda url: "filters/save" not in url)
    yield "log, notice", page
    yield "filters", window.open("/t/acme/messages/filters/")
    yield "change all", window.open("/t/acme/messages/jobs/new/cancel/")
    page = window.open("/t/acme/messages/jobs/new/export/?days=30")
    yield "export", page
    page.click("form.rw-form button.btn-primary")
    page.wait_for_selector("#progress")
    yield "job, waiting", page
    jobs.work()
    page.wait_for_selector("#progress a[download]")
    yield "job, done", page
    yield "jobs", window.open("/t/acme/messages/jobs/")
    yield "change one", window.open(f"{message}change/hold/?recipient={recipient.pk}")
    yield "suppressions", window.open(f"{message}suppressions/?recipient={recipient.pk}")
    yield "message", window.open(message)
    yield "rejections, narrowed", window.open("/t/acme/rejections/?code=550")


@in_each_look
def test_pages_are_for_everybody(language: str, theme: str, width: int, cast: Cast, window: Any) -> None:
    write_examples(cast.acme)
    counting.count_waiting()
    mine = window(language, theme, width)
    mine.sign_in("alice@acme.example")

    wrong = []
    for name, page in _visit(mine, cast):
        page.evaluate(AXE)
        wrong += [f"{name}: {violation}" for violation in page.evaluate(RUN_AXE, TAGS)]
        if page.evaluate(IS_WIDER_THAN_THE_WINDOW):
            wrong.append(f"{name}: wider than the window")
        if language == "ja":
            wrong += [f"{name}: {element}" for element in page.evaluate(SPACED_SLANTED_UPPER_CASED)]
    assert wrong == []


def test_a_chart_is_drawn_and_read_by_keyboard(cast: Cast, window: Any) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()
    mine = window("en")
    mine.sign_in("alice@acme.example")
    page = mine.open("/t/acme/statistics/?days=7")
    figure = page.locator("figure.rw-chart").first

    assert figure.locator("canvas").count() == 1
    drawn = page.evaluate(
        """() => { const c = document.querySelector("figure.rw-chart canvas");
           const found = new Set(); const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
           for (let i = 0; i < d.length; i += 4) if (d[i + 3]) found.add(`${d[i]},${d[i + 1]},${d[i + 2]}`);
           return [...found]; }"""
    )
    assert "53,161,141" in drawn  # the colour of what was accepted
    figure.locator("[data-plot]").focus()
    said = []
    for key in ("End", *["ArrowLeft"] * 2):  # the mail was accepted a few minutes ago
        page.keyboard.press(key)
        said.append(figure.locator("[data-value]").inner_text())
    assert any("Accepted by the receiving server 2" in one for one in said), said
    button = figure.locator("[data-legend] button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("[data-table]").first.get_attribute("open") is None


def test_figures_are_there_without_scripts(cast: Cast, window: Any) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()
    mine = window("en", java_script_enabled=False)
    mine.sign_in("alice@acme.example")

    page = mine.open("/t/acme/statistics/?days=7")
    page.locator("table.rw-data td a", has_text="2").first.click()

    assert page.locator("a.rw-open").count() == 2
