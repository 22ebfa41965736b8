"""The send log's filters, alone and together, and the names they are kept under."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client

from accounts.identifiers import uuid7
from accounts.models import AuditEntry, Credential, Membership, Role
from delivery import partitions
from delivery.log_filters import LogFilter, as_json, condition, from_json
from delivery.models import Complaint, Message, SavedFilter, Stream
from tests.support.journeys import EXAMPLES, Cast, write_message

LOG = "/t/acme/messages/"


def _addresses(content: bytes) -> set[str]:
    return set(re.findall(r'<a class="rw-open"[^>]*><bdi>([^<]*)</bdi>', content.decode()))


@pytest.fixture
def mail(cast: Cast) -> Message:
    """All examples by shop@, and one mail with everything a filter can ask of a message."""
    write_message(cast.acme, *EXAMPLES)
    shop = Credential.objects.create(
        tenant=cast.acme, kind="smtp", name="shop", username="acme.shop", secret_sha256=b"0" * 32
    )
    special = replace(EXAMPLES[0], address="special@news.example")
    message = write_message(
        cast.acme,
        special,
        author="news@letters.example",
        subject="【重要】Ｎｅｗｓ 11月号のご案内 100%",
        credential=shop,
    )
    bulk = Stream.objects.of(cast.acme).get(name="bulk")
    Message.objects.filter(pk=message.pk).update(
        tags=["news", "十一月"], stream=bulk, header_message_id="<n1@letters.example>"
    )
    recipient = message.recipients.get()
    Complaint.objects.create(
        tenant=cast.acme,
        message_id=message.pk,
        recipient_id=recipient.pk,
        feedback_type="abuse",
        received_at=datetime.now(tz=UTC),
    )
    return message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"author": "news@letters.example"}, {"special@news.example"}),
        ({"author": "letters.example"}, {"special@news.example"}),
        ({"author": "LETTERS"}, {"special@news.example"}),
        ({"subject": "ご案内"}, {"special@news.example"}),
        ({"subject": "news 案内"}, {"special@news.example"}),  # full-width letters, two words
        ({"subject": "１１月号"}, {"special@news.example"}),
        ({"subject": "重"}, {"special@news.example"}),
        ({"subject": "100%"}, {"special@news.example"}),
        ({"subject": "_____"}, set()),
        ({"subject": "案内 nothing"}, set()),
        ({"tag": "十一月"}, {"special@news.example"}),
        ({"tag": "new"}, set()),
        ({"message_id": "n1@letters.example"}, {"special@news.example"}),
        ({"message_id": "<n1@letters.example>"}, {"special@news.example"}),
        ({"complained": 1}, {"special@news.example"}),
        ({"returned": 1}, {"ken@corp.example"}),
        ({"ambiguous": 1}, {"dropped@old.example"}),
        ({"attempts": 2}, {"hana@docomo.example", "slow@tar.example"}),
        ({"provider": "docomo"}, {"hana@docomo.example"}),
        ({"provider": ["docomo", "icloud"]}, {"hana@docomo.example", "blocked@icloud.example"}),
        ({"provider": "nonsense"}, set()),
        ({"provider": "gmail", "author": "letters.example"}, {"special@news.example"}),
        ({"provider": "gmail", "author": "letters.example", "state": "bounced"}, set()),
        ({"subject": "\x00", "author": "\x00", "stream": "x", "credential": "1", "attempts": "-1"}, None),
    ],
)
def test_filters_combine(query: dict[str, object], expected: set[str] | None, mail: Message, alice: Client) -> None:
    everything = {fate.address for fate in EXAMPLES} | {"special@news.example"}

    found = _addresses(alice.get(f"{LOG}?{urlencode(query, doseq=True)}").content)

    assert found == (everything if expected is None else expected)


def test_credential_and_stream_are_chosen_by_name(mail: Message, alice: Client) -> None:
    page = alice.get(LOG).content.decode()

    for name, value in (
        ("credential", str(mail.credential_id)),
        ("stream", str(Stream.objects.get(name="bulk", tenant=mail.tenant).pk)),
    ):
        assert f'<option value="{value}">' in page
        assert _addresses(alice.get(f"{LOG}?{name}={value}").content) == {"special@news.example"}


def test_the_period_may_be_that_of_the_outcome(cast: Cast, alice: Client) -> None:
    accepted = datetime.now(tz=UTC) - timedelta(hours=30)
    write_message(cast.acme, EXAMPLES[7], accepted_at=accepted)  # expires three minutes later
    hours = [(accepted + timedelta(minutes=add)).strftime("%Y-%m-%dT%H:%M:%SZ") for add in (2, 60)]

    by_acceptance = f"{LOG}?since={hours[0]}&until={hours[1]}"

    assert _addresses(alice.get(by_acceptance).content) == set()
    assert _addresses(alice.get(f"{by_acceptance}&time=outcome").content) == {"slow@tar.example"}
    assert _addresses(alice.get(f"{by_acceptance}&time=outcome&state=bounced").content) == set()


def test_each_criterion_is_a_chip_that_can_be_taken_away(mail: Message, alice: Client) -> None:
    query = {
        "provider": "docomo",
        "author": "shop@acme.example",
        "subject": "注文",
        "put_off": 1,
        "attempts": 2,
        "time": "outcome",
        "state": "deferred",
    }

    page = alice.get(f"{LOG}?{urlencode(query)}").content.decode()
    ways_out = [html.unescape(path) for path in re.findall(r'<a href="(\?[^"]*)" aria-label="Remove the filter', page)]

    assert len(ways_out) == len(query)
    assert len(set(ways_out)) == len(query)
    assert all(len(way.split("&")) == len(query) - 1 for way in ways_out)


def test_a_filter_survives_the_way_through_json() -> None:
    narrowed = LogFilter(
        classes=frozenset({"policy"}),
        since=datetime(2026, 11, 24, tzinfo=UTC),
        credential=uuid7(),
        min_attempts=2,
        is_returned=True,
        providers=frozenset({"google", "other"}),
    )

    assert from_json(as_json(narrowed)) == narrowed
    assert as_json(LogFilter()) == {}


# ---------------------------------------------------------------- saved filters


def test_a_filter_is_saved_renamed_and_removed(cast: Cast, alice: Client) -> None:
    saved = alice.post(f"{LOG}filters/save/?state=bounced&subject=x", {"name": " Bounced  x "})
    assert saved["Location"] == f"{LOG}?state=bounced&subject=x"
    assert b'href="?state=bounced&amp;subject=x"><bdi>Bounced x</bdi>' in alice.get(LOG).content

    one = SavedFilter.objects.get()
    alice.post(f"{LOG}filters/{one.pk}/rename/", {"name": "Better"})
    assert SavedFilter.objects.get().name == "Better"
    gone = alice.post(f"{LOG}filters/{one.pk}/remove/")

    assert not SavedFilter.objects.exists()
    assert b"filters/save/?state=bounced&amp;subject=x" in alice.get(gone["Location"]).content  # the way back
    assert list(AuditEntry.objects.order_by("id").values_list("action", flat=True)) == [
        "filter.save",
        "filter.rename",
        "filter.remove",
    ]


def test_a_name_is_taken_once_and_never_empty(cast: Cast, alice: Client) -> None:
    alice.post(f"{LOG}filters/save/", {"name": "mine"})

    for name, refusal in (("mine", b"of this name already"), (" ", b"required"), ("x" * 81, b"at most 80")):
        page = alice.post(f"{LOG}filters/save/", {"name": name})
        assert page.status_code == 200
        assert refusal in page.content
    assert SavedFilter.objects.count() == 1


def test_others_see_what_is_shared_and_only_developers_share(cast: Cast, alice: Client, signed_in) -> None:  # type: ignore[no-untyped-def]
    alice.post(f"{LOG}filters/save/", {"name": "alone"})
    alice.post(f"{LOG}filters/save/", {"name": "for all", "is_shared": "on"})
    shared = SavedFilter.objects.get(name="for all")
    Membership.objects.filter(user=cast.bob).update(role=Role.ANALYST)
    bob = signed_in(cast.bob)

    page = bob.get(f"{LOG}filters/").content

    assert b"for all" in page
    assert b"alone" not in page
    assert bob.post(f"{LOG}filters/{shared.pk}/remove/").status_code == 403
    assert bob.post(f"{LOG}filters/{SavedFilter.objects.get(name='alone').pk}/remove/").status_code == 404
    bob.post(f"{LOG}filters/save/", {"name": "bob's", "is_shared": "on"})
    assert SavedFilter.objects.get(name="bob's").person == cast.bob


def test_recipients_of_what_a_filter_asks_of_messages_are_looked_for_on_their_day_alone(cast: Cast) -> None:
    now = datetime.now(tz=UTC).replace(hour=12)
    shop = Credential.objects.create(
        tenant=cast.acme, kind="smtp", name="shop", username="acme.shop", secret_sha256=b"0" * 32
    )
    partitions.ensure_ahead(now=now - timedelta(days=3))
    for days in range(4):
        write_message(cast.acme, EXAMPLES[0], credential=shop, accepted_at=now - timedelta(days=days))
    one_day = LogFilter(credential=shop.id, since=now - timedelta(days=4))
    matching = condition(cast.acme, one_day)

    with connection.cursor() as cursor:
        # The tables of a test are too small for the planner to bother.
        cursor.execute(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
        )
        cursor.execute("SET LOCAL enable_memoize = off; SET LOCAL enable_material = off; SET LOCAL enable_sort = off")
        sql = f"SELECT r.id FROM delivery_recipient AS r WHERE {matching.sql}"
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", matching.values)
        plan = cursor.fetchone()[0]
    probes = [node for node in _nodes(plan[0]["Plan"]) if node.get("Alias", "").startswith("r_")]
    assert probes and not [node for node in _nodes(plan[0]["Plan"]) if node["Node Type"] == "Seq Scan"]
    # One message a day: a day that is looked at for another day's message is looked at more than once.
    assert max(node["Actual Loops"] for node in probes) <= 1, plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)
