"""Counters: each change exactly once, whatever dies in between; late events too."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection, transaction

from accounts.identifiers import uuid7
from accounts.models import Credential
from delivery.models import DeliveryEvent, EventToCount, Message, Statistic, StatisticClass, StatisticTime
from delivery.statistics import counting, figures
from tests.support.journeys import EXAMPLES, Cast, Fate, Try, make_cast, write_message

NOW = datetime.now(tz=UTC)
WHOLE_HOURS = tuple(counting.start_of(NOW + timedelta(days=days), minutes=60) for days in (-30, 1))
# Not of whole hours, so that quarters are added up.
LONG = (
    counting.start_of(NOW - timedelta(days=39)).replace(minute=15),
    counting.start_of(NOW + timedelta(hours=1)).replace(minute=45),
)


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


def _truth(cast: Cast) -> Counter[str]:
    """What the events say, a recipient that is put off again being none that is put off."""
    return Counter(
        event.kind
        for event in DeliveryEvent.objects.of(cast.acme)
        if event.kind != "deferred" or event.data["attempt"] == 1
    )


def _counted(cast: Cast) -> Counter[str]:
    found = figures.totals(cast.acme, *LONG)
    return Counter({name: number for name in figures.COLUMNS if (number := getattr(found, name))})


def _shown(truth: Counter[str]) -> Counter[str]:
    return Counter({kind: number for kind, number in truth.items() if kind != "held"})


def test_the_counters_are_what_the_events_say(cast: Cast) -> None:
    write_message(cast.acme, *EXAMPLES)
    write_message(cast.globex, EXAMPLES[0])

    assert counting.count_waiting() > len(EXAMPLES)

    assert _counted(cast) == _shown(_truth(cast))
    for edges in (LONG, WHOLE_HOURS):
        assert figures.totals(cast.acme, *edges) == figures.totals(cast.acme, *LONG)
    assert figures.totals(cast.globex, *LONG) == figures.Totals(accepted=1, delivered=1)
    assert not EventToCount.objects.exists()


def test_counting_again_changes_nothing(cast: Cast) -> None:
    write_message(cast.acme, *EXAMPLES)
    counting.count_waiting()
    before = list(Statistic.objects.order_by("tenant_id", "dimension", "minutes", "value", "starts_at").values())

    assert counting.count_waiting() == 0
    assert (
        list(Statistic.objects.order_by("tenant_id", "dimension", "minutes", "value", "starts_at").values()) == before
    )


def test_more_than_one_transaction_holds_is_counted_in_several(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_AT_ONCE", 7)
    write_message(cast.acme, *EXAMPLES)

    counting.count_waiting()

    assert _counted(cast) == _shown(_truth(cast))


@pytest.mark.django_db(transaction=True)
def test_a_kill_before_the_commit_loses_and_doubles_nothing(transactional_db: None) -> None:
    cast = make_cast()
    write_message(cast.acme, *EXAMPLES)
    waiting = EventToCount.objects.count()

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    with pytest.raises(Exception, match=r"terminat|closed|consuming"), transaction.atomic():
        assert counting._count_some() == waiting  # counted, and about to be committed
        _kill(backend)
        connection.cursor().execute("SELECT 1")
    connection.close()

    assert EventToCount.objects.count() == waiting
    assert _counted(cast) == Counter()
    counting.count_waiting()
    assert _counted(cast) == _shown(_truth(cast))


@pytest.mark.django_db(transaction=True)
def test_an_event_that_commits_late_is_counted_when_it_does(transactional_db: None) -> None:
    cast = make_cast()
    message = write_message(cast.acme, EXAMPLES[0])
    counting.count_waiting()

    with _another_connection() as slow:
        _tell(slow, message, "complained")  # before what follows, and committed after it was counted
        write_message(cast.acme, EXAMPLES[1])
        counting.count_waiting()
        assert figures.totals(cast.acme, *LONG).complained == 0
        slow.commit()
    counting.count_waiting()

    assert figures.totals(cast.acme, *LONG).complained == 1
    assert _counted(cast) == _shown(_truth(cast))


@pytest.mark.django_db(transaction=True)
def test_two_who_count_at_once_count_once(transactional_db: None) -> None:
    cast = make_cast()
    write_message(cast.acme, *EXAMPLES)
    counted: list[int] = []

    def count() -> None:
        try:
            counted.append(counting.count_waiting())
        finally:
            connection.close()

    with transaction.atomic():
        mine = counting._count_some()
        other = threading.Thread(target=count)
        other.start()
        other.join()
    counting.count_waiting()

    assert mine > 0
    assert counted == [0]
    assert _counted(cast) == _shown(_truth(cast))


def test_what_happens_to_old_mail_counts_when_it_happens(cast: Cast) -> None:
    message = write_message(cast.acme, EXAMPLES[0], accepted_at=NOW - timedelta(days=30))
    _tell(None, message, "returned")

    counting.count_waiting()

    today = (counting.start_of(NOW - timedelta(hours=1)), LONG[1])
    assert figures.totals(cast.acme, *today) == figures.Totals(returned=1)
    assert [one.reply_class for one in figures.classes(cast.acme, *today)] == ["mailbox_full"]
    assert figures.totals(cast.acme, *LONG).delivered == 1


def test_mail_whose_history_is_gone_still_counts(cast: Cast) -> None:
    message = write_message(cast.acme, EXAMPLES[0])
    counting.count_waiting()
    _tell(None, message, "complained")
    Message.objects.filter(pk=message.pk).delete()

    counting.count_waiting()

    assert figures.totals(cast.acme, *LONG).complained == 1


def test_each_dimension_adds_up(cast: Cast) -> None:
    shop = Credential.objects.create(
        tenant=cast.acme, kind="smtp", name="shop", username="acme.shop", secret_sha256=b"0" * 32
    )
    write_message(cast.acme, *EXAMPLES, credential=shop)
    write_message(cast.acme, *EXAMPLES[:4], author="a@other.example")
    counting.count_waiting()
    whole = figures.totals(cast.acme, *LONG)

    for dimension in ("provider", "domain", "stream", "credential"):
        parts = figures.breakdown(cast.acme, *LONG, dimension=dimension).slices
        for name in ("delivered", "bounced", "expired", "returned"):
            assert sum(getattr(one.totals, name) for one in parts) == getattr(whole, name), (dimension, name)
    providers = {one.value: one.totals for one in figures.breakdown(cast.acme, *LONG, dimension="provider").slices}
    assert providers["gmail"].delivered == 2
    assert providers[counting.OTHER].bounced == 4


def test_a_recipient_put_off_twice_was_put_off_once(cast: Cast) -> None:
    late = Fate(address="a@b.example", tries=(Try(reply="451 4.7.1 later"), Try(reply="451 4.7.1 later"), Try()))
    write_message(cast.acme, late)

    counting.count_waiting()

    assert figures.totals(cast.acme, *LONG).deferred == 1


def test_the_time_to_acceptance_is_that_of_the_accepted(cast: Cast) -> None:
    for seconds in (1, 1, 1, 600):
        quick = Fate(address="a@b.example", tries=(Try(after=timedelta(seconds=seconds), took=timedelta(0)),))
        write_message(cast.acme, quick, accepted_at=NOW - timedelta(hours=1))
    counting.count_waiting()

    waits = figures.waits(cast.acme, *LONG)

    assert waits.p50 is not None
    assert waits.p95 is not None
    assert abs(waits.p50.total_seconds() - 1) < 0.1
    assert abs(waits.p95.total_seconds() - 600) < 60


def test_only_so_many_tags_have_a_name(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_TAGS", 3)
    for number in range(5):
        message = write_message(cast.acme, EXAMPLES[0])
        Message.objects.filter(pk=message.pk).update(tags=[f"tag{number}", "every"])
    counting.count_waiting()

    slices = figures.breakdown(cast.acme, *LONG, dimension="tag").slices

    assert {one.value: one.totals.delivered for one in slices} == {"every": 5, "tag0": 1, "tag1": 1, "": 3}


def test_counters_go_when_they_are_old_totals_last(cast: Cast) -> None:
    write_message(cast.acme, *EXAMPLES[:4])
    counting.count_waiting()

    assert counting.forget_old(now=NOW) == 0
    counting.forget_old(now=NOW + counting.KEEP_QUARTERS + timedelta(hours=1))
    assert set(Statistic.objects.values_list("minutes", flat=True)) == {60}
    counting.forget_old(now=NOW + counting.KEEP_DIMENSIONS + timedelta(hours=1))
    assert set(Statistic.objects.values_list("dimension", flat=True)) == {"all"}
    assert figures.totals(cast.acme, *WHOLE_HOURS).delivered == 1
    counting.forget_old(now=NOW + counting.KEEP_TOTALS + timedelta(hours=1))
    assert not Statistic.objects.exists()
    assert not StatisticClass.objects.exists()
    assert not StatisticTime.objects.exists()


def _another_connection() -> psycopg.Connection:
    return psycopg.connect(
        **{
            name: value
            for name, value in connection.get_connection_params().items()
            if name in {"host", "port", "user", "password", "dbname"}
        }
    )


def _kill(backend: int) -> None:
    with _another_connection() as killer:
        killer.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


def _tell(other: psycopg.Connection | None, message: Message, kind: str) -> None:
    values = (
        message.id,
        uuid7(),
        message.recipients.get().id,
        message.tenant_id,
        kind,
        NOW,
        '{"class": "mailbox_full"}',
    )
    sql = """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
             VALUES (%s, %s, %s, %s, %s, %s, %s)"""
    if other is not None:
        other.execute(sql, values)
    else:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
