"""Overview and statistics: true sentences, and numbers that lead to the rows they count."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import QuotaBucket, Tenant
from delivery.models import Message, SendingDomain
from delivery.statistics import counting
from relayweb.console import periods
from tests.support.journeys import EXAMPLES, Cast, Fate, write_examples, write_message

OVERVIEW, STATISTICS = "/t/acme/", "/t/acme/statistics/"


def _figures(page: bytes) -> dict[str, tuple[str, str]]:
    """Label → number and where it leads."""
    found = re.findall(r'<dt>([^<]+)</dt><dd><a href="([^"]+)">([^<]+)</a>', page.decode())
    return {label: (number, html.unescape(path)) for label, path, number in found}


def _rows(page: bytes) -> int:
    return len(re.findall(rb'class="rw-open"', page))


@pytest.mark.parametrize("path", [f"{OVERVIEW}?days=7", f"{STATISTICS}?days=7"])
def test_every_figure_leads_to_as_many_rows(path: str, cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()

    figures = _figures(alice.get(path).content)

    assert figures["Accepted by the receiving server"][0] == "2"
    for label, (number, target) in figures.items():
        assert _rows(alice.get(target).content) == int(number), label


def test_numbers_of_each_table_lead_to_as_many_rows(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    message = write_message(cast.acme, *EXAMPLES[:4], author="news@other.example")
    Message.objects.filter(pk=message.pk).update(tags=["spring"])
    counting.count_waiting()

    for by in ("provider", "domain", "stream", "tag"):
        page = alice.get(f"{STATISTICS}?by={by}").content.decode()
        links = re.findall(r'<a href="(/t/acme/messages/[^"]+)">(\d+)</a>', page)
        assert len(links) > 10
        for target, number in links:
            assert _rows(alice.get(html.unescape(target)).content) == int(number), (by, target)


def test_few_recipients_get_numbers_and_many_a_percentage(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES[:4])
    counting.count_waiting()
    assert (
        b"1 of 3 recipients were accepted by the receiving servers in the last 24 hours." in alice.get(OVERVIEW).content
    )

    write_message(cast.acme, *(Fate(address=f"r{number}@news.example") for number in range(57)))
    counting.count_waiting()

    assert b"the receiving servers accepted 96.7 %." in alice.get(OVERVIEW).content


def test_the_chart_has_the_numbers_of_the_table(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()

    page = alice.get(f"{STATISTICS}?days=7").content.decode()
    chart = json.loads(re.search(r'<script id="volume-data" type="application/json">(.*?)</script>', page)[1])  # type: ignore[index]

    assert {one["key"]: sum(one["values"]) for one in chart["series"]} == {
        "delivered": 2,
        "bounced": 2,
        "expired": 1,
        "other": 2,
    }
    assert len(chart["edges"]) == 7 * 24 + 1


def test_an_unused_tenant_is_led_to_the_first_steps(cast: Cast, alice: Client) -> None:
    page = alice.get(OVERVIEW).content

    assert b"No mail yet" in page
    assert b'href="/t/acme/start/"' in page
    assert alice.get(STATISTICS).status_code == 200


def test_what_needs_attention_stands_first_and_leads_on(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0])
    SendingDomain.objects.create(tenant=cast.acme, name="acme.example", state="lapsed", ownership_token="x")
    Tenant.objects.filter(pk=cast.acme.pk).update(daily_limit=100)
    start = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    QuotaBucket.objects.create(owner_id=cast.acme.pk, period="day", window_start=start, used=85)

    page = alice.get(OVERVIEW).content.decode()

    assert "2 things need your attention." in page
    assert page.index("acme.example” is no longer verified") < page.index("85 % of the limit is used")
    assert 'href="/t/acme/domains/acme.example/"' in page


def test_a_refresh_is_empty_while_nothing_changed(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0])
    counting.count_waiting()
    live = html.unescape(re.search(r'hx-get="(/t/acme/live/[^"]+)"', alice.get(OVERVIEW).content.decode())[1])  # type: ignore[index]
    assert alice.get(live).status_code == 204

    write_message(cast.acme, EXAMPLES[2])
    counting.count_waiting()

    assert b"1 of 2 recipients" in alice.get(live).content


def test_one_value_alone_has_its_own_figures(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()

    page = alice.get(f"{STATISTICS}?only=provider:gmail")

    assert _figures(page.content)["Accepted by the receiving server"][0] == "1"
    assert b"Gmail" in page.content
    assert b"Divided by" not in page.content


def test_another_tenants_values_are_none(cast: Cast, charlie: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])
    counting.count_waiting()

    page = charlie.get(f"/t/globex/statistics/?only=stream:{message.stream_id}").content

    assert b"transactional" not in page
    assert b"No mail in the last 24 hours." in page


def test_the_tables_are_files_too_and_no_formula_runs_in_them(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, *EXAMPLES)
    Message.objects.filter(pk=message.pk).update(tags=["=cmd()"])
    counting.count_waiting()

    by_tag = alice.get(f"{STATISTICS}csv/?by=tag").content.decode()
    course = alice.get(f"{STATISTICS}csv/?days=30").content.decode()

    assert "'=cmd(),'=cmd()," in by_tag
    assert sum(int(line.split(",")[2]) for line in course.splitlines()[1:]) == 2
    assert len(course.splitlines()) == 31


def test_custom_dates_are_days_of_the_readers_zone(cast: Cast, alice: Client) -> None:
    early = datetime(2026, 11, 9, 15, 30, tzinfo=UTC)  # the 10th in Tokyo
    for moment in (early, early - timedelta(hours=1)):
        write_message(cast.acme, EXAMPLES[0], accepted_at=moment)
    counting.count_waiting()

    page = alice.get(f"{STATISTICS}?from=2026-11-10&to=2026-11-10").content

    assert _figures(page)["Received from you"][0] == "1"


def test_nonsense_in_the_address_is_left_out(cast: Cast, alice: Client) -> None:
    for query in ("days=x", "from=2026-13-45", "to=1", "from=9999-01-01", "only=provider", "only=stream:x%00", "by=x"):
        assert alice.get(f"{STATISTICS}?{query}").status_code == 200
        assert alice.get(f"{OVERVIEW}?{query}").status_code == 200


def test_a_day_with_a_clock_change_is_one_column() -> None:
    with timezone.override("Europe/Berlin"):
        query = periods.QueryDict("from=2026-10-01&to=2026-10-31")
        edges = periods.read(query, now=datetime(2026, 11, 24, tzinfo=UTC)).edges

    assert len(edges) == 32
    assert edges[25] - edges[24] == timedelta(hours=25)


@pytest.mark.parametrize("path", [OVERVIEW, f"{STATISTICS}?days=30&by=tag", f"{STATISTICS}?only=provider:gmail"])
def test_a_page_takes_few_queries(path: str, cast: Cast, alice: Client) -> None:
    write_examples(cast.acme)
    counting.count_waiting()

    with CaptureQueriesContext(connection) as captured:
        assert alice.get(path).status_code == 200

    assert len(captured) <= 15
