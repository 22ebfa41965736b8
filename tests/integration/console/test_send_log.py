"""The send log: filters, pages, counts, and parts that refresh."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from delivery import history
from delivery.log_filters import LogFilter
from delivery.models import Recipient
from delivery.queue.figures import queue_stats
from delivery.time_limit import TookTooLong, within_the_time_limit
from tests.support.journeys import EXAMPLES, Cast, Fate, Try, write_examples, write_message, write_rejections

LOG = "/t/acme/messages/"


def _addresses(content: bytes) -> list[str]:
    return re.findall(r'<a class="rw-open"[^>]*><bdi>([^<]*)</bdi>', content.decode())


def _live_path(content: bytes, part: str) -> str:
    found = re.search(rf'id="{part}".*?hx-get="([^"]*)"', content.decode(), re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def test_the_newest_recipient_comes_first_with_state_reason_and_reply(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0], accepted_at=datetime.now(tz=UTC) - timedelta(hours=2))
    write_message(cast.acme, EXAMPLES[2], accepted_at=datetime.now(tz=UTC) - timedelta(hours=1), subject="ようこそ")

    page = alice.get(LOG).content

    assert _addresses(page) == ["jiro@nosuch.example", "taro@gmail.example"]
    for text in ("Bounced", "Domain cannot receive mail", "550 5.1.2 the domain", "ようこそ", "2 recipients match."):
        assert text.encode() in page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=bounced", {"jiro@nosuch.example", "unknown@corp.example"}),
        ("state=bounced&state=expired", {"jiro@nosuch.example", "unknown@corp.example", "slow@tar.example"}),
        ("class=greylist", {"grey@school.example"}),
        ("class=mailbox_full", {"ken@corp.example"}),  # reported after it was accepted
        ("recipient=ken@corp.example", {"ken@corp.example"}),
        ("recipient=KEN@Corp.Example", {"ken@corp.example"}),
        ("recipient=mailto:<ken@CORP.example>", {"ken@corp.example"}),
        ("recipient=corp.example", {"ken@corp.example", "unknown@corp.example"}),
        ("recipient=waiting", {"new@waiting.example", "now@waiting.example"}),
        ("recipient=corp.example&state=delivered", {"ken@corp.example"}),
        ("state=nonsense&class=nonsense&days=x&since=yesterday&before=1", {fate.address for fate in EXAMPLES}),
        ("recipient=%00%25_", set()),
    ],
)
def test_filters_narrow_the_list(query: str, expected: set[str], cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)

    assert set(_addresses(alice.get(f"{LOG}?{query}").content)) == expected


def test_the_counts_are_links_to_the_rows_that_add_up_to_them(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *EXAMPLES)
    page = alice.get(LOG).content.decode()

    figures = re.findall(r'class="rw-figure[^"]*" href="([^"]*)".*?<strong>(\d+)</strong>', page, re.DOTALL)

    assert sum(int(number) for _, number in figures) == len(EXAMPLES)
    for target, number in figures:
        assert len(_addresses(alice.get(LOG + html.unescape(target)).content)) == int(number)


def test_the_default_period_is_seven_days_and_older_is_one_step_away(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0], accepted_at=datetime.now(tz=UTC) - timedelta(days=9))

    page = alice.get(LOG).content

    assert _addresses(page) == []
    older = re.search(r'href="(\?since=[^"]*)"', page.decode())
    assert older is not None
    assert _addresses(alice.get(LOG + html.unescape(older[1])).content) == ["taro@gmail.example"]
    assert _addresses(alice.get(f"{LOG}?days=30").content) == ["taro@gmail.example"]


def test_pages_lead_to_older_and_back_without_gaps(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, *(Fate(address=f"r{number:03}@news.example") for number in range(120)))
    seen, path = [], LOG
    while path:
        page = alice.get(path).content
        seen.append(_addresses(page))
        older = re.search(r'href="(\?[^"]*before=[^"]*)"', page.decode())
        path = LOG + html.unescape(older[1]) if older else ""
    newer = re.search(r'href="(\?after=[^"]*)"', page.decode())

    assert [len(part) for part in seen] == [50, 50, 20]
    assert len({address for part in seen for address in part}) == 120
    assert newer is not None
    assert _addresses(alice.get(LOG + newer[1]).content) == seen[1]


def test_an_empty_log_teaches_and_an_empty_search_helps(cast: Cast, alice: Client) -> None:
    assert b"No mail yet" in alice.get(LOG).content

    write_message(cast.acme, EXAMPLES[0])
    page = alice.get(f"{LOG}?recipient=nobody&state=bounced").content

    assert b"Nothing matches" in page
    assert b'aria-label="Remove the filter Recipient nobody"' in page


def test_hostile_text_stays_text(cast: Cast, alice: Client) -> None:
    hostile = '"><svg onload=alert(1)>'
    odd = Fate(address=f"{'a' * 64}@{'b' * 60}.example", tries=(Try(reply=f"250 {hostile} \u202eevil"),))
    write_message(cast.acme, odd, subject=hostile * 20, author="shop@acme.example")

    page = alice.get(LOG).content

    assert b"<svg onload" not in page
    assert b"&lt;svg onload" in page


def test_a_search_past_its_time_limit_names_what_would_help(
    cast: Cast, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes_too_long(*args: object, **kwargs: object) -> None:
        raise TookTooLong

    monkeypatch.setattr(history, "page_of_recipients", takes_too_long)

    assert b"This search takes too long" in alice.get(LOG).content


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_the_database_ends_took_too_long() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 50")

    try:
        with pytest.raises(TookTooLong), within_the_time_limit(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
    finally:
        connection.close()


# ---------------------------------------------------------------- parts that refresh


def test_the_count_bar_answers_204_until_something_changes(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0])
    path = _live_path(alice.get(LOG).content, "summary")

    unchanged = alice.get(path)
    write_message(cast.acme, EXAMPLES[1], accepted_at=datetime.now(tz=UTC))
    changed = alice.get(path)

    assert unchanged.status_code == 204
    assert unchanged["X-Looked-At"]
    assert changed.status_code == 200
    assert b"Show 1 new" in changed.content
    assert b"<html" not in changed.content
    assert alice.get(_live_path(changed.content, "summary")).status_code == 204


def test_open_rows_change_in_place_and_settled_ones_are_no_longer_asked_for(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0], EXAMPLES[1], EXAMPLES[8])
    path = _live_path(alice.get(LOG).content, "watch")
    assert alice.get(path).status_code == 204

    deferred = Recipient.objects.get(message=message, state="deferred")
    Recipient.objects.filter(pk=deferred.pk).update(state="delivered", state_since=datetime.now(tz=UTC))
    changed = alice.get(path).content.decode()

    assert re.findall(r'<tr[^>]* id="r-([0-9a-f]+)" hx-swap-oob="true"', changed) == [deferred.id.hex]
    assert deferred.id.hex not in _live_path(changed.encode(), "watch")


def test_a_log_without_open_rows_watches_none(cast: Cast, alice: Client) -> None:
    write_message(cast.acme, EXAMPLES[0])

    assert b'<div id="watch"></div>' in alice.get(LOG).content


def test_a_signed_out_reader_keeps_the_old_part(cast: Cast) -> None:
    answer = Client().get(f"{LOG}live/", headers={"hx-request": "true"})

    assert answer.status_code == 401
    assert answer.content == b""


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize("path", [LOG, f"{LOG}?state=bounced&recipient=corp.example", "/t/acme/rejections/"])
def test_a_page_takes_few_queries(path: str, cast: Cast, alice: Client) -> None:
    write_examples(cast.acme)
    write_rejections(cast.acme)

    with CaptureQueriesContext(connection) as captured:
        assert alice.get(path).status_code == 200

    assert len(captured) <= 12


def test_a_refresh_takes_three_queries(cast: Cast, alice: Client) -> None:
    write_examples(cast.acme)
    page = alice.get(LOG).content

    for part in ("summary", "watch"):
        path = _live_path(page, part)
        with CaptureQueriesContext(connection) as captured:
            assert alice.get(path).status_code == 204
        assert len(captured) <= 3


def test_a_period_reads_its_own_partitions_only(cast: Cast) -> None:
    write_message(cast.acme, EXAMPLES[0])
    narrowed = LogFilter(since=datetime.now(tz=UTC) - timedelta(hours=1))
    with CaptureQueriesContext(connection) as captured:
        history.page_of_recipients(cast.acme, narrowed)
    sql = captured.captured_queries[0]["sql"]

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(row[0] for row in cursor.fetchall())

    partitions = set(re.findall(r"delivery_recipient_p(\d{8})", plan))
    assert narrowed.since is not None
    assert f"{narrowed.since - timedelta(days=1):%Y%m%d}" not in partitions
    assert f"{narrowed.since:%Y%m%d}" in partitions or narrowed.since.hour == 23


# ---------------------------------------------------------------- rejections


def test_rejections_say_what_was_wrong_and_how_to_mend_it(cast: Cast, alice: Client) -> None:
    write_rejections(cast.acme)

    page = alice.get("/t/acme/rejections/").content.decode()

    assert "550 5.7.1 author domain not verified for this account" in page
    assert "The author&#x27;s domain “gmail.com” is not verified." in page or "The author's domain “gmail.com”" in page
    assert "4 times" in page
    assert "r4k3x9" in page


def test_without_rejections_the_page_says_what_would_appear(cast: Cast, alice: Client) -> None:
    assert b"No mail was refused" in alice.get("/t/acme/rejections/").content


# ---------------------------------------------------------------- for the command line


def test_queue_figures_add_up(cast: Cast) -> None:
    write_message(cast.acme, *EXAMPLES)
    opened = [fate for fate in EXAMPLES if fate.state in {"queued", "deferred", "held"}]

    figures = queue_stats()

    assert figures.open == len(opened)
    assert figures.open == figures.due + figures.claimed + figures.deferred + figures.held
    assert (figures.claimed, figures.held) == (1, 1)
    assert figures.open == sum(row.open for row in figures.by_provider)
    assert {row.title for row in figures.by_provider} >= {"docomo", "iCloud"}
    assert figures.oldest_age_s > 0


def test_an_empty_queue_has_figures_too(db: None) -> None:
    assert queue_stats().open == 0
    assert queue_stats().by_provider == ()
