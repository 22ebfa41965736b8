"""Secrets, signatures, URLs and waits of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from delivery.core import webhooks
from delivery.core.webhooks import CallSchedule, UrlUnusable, read_url


def test_it_signs_as_the_specification_does() -> None:
    # The example of the Standard Webhooks specification.
    signature = webhooks.signatures(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_make_two_signatures() -> None:
    secrets = [webhooks.secret_from(bytes([number] * 32)) for number in (1, 2)]

    both = webhooks.signatures(secrets, webhook_id="a", timestamp=1, body=b"{}")

    assert both.split() == [webhooks.signatures([s], webhook_id="a", timestamp=1, body=b"{}") for s in secrets]


def test_a_batch_of_the_same_events_has_the_same_id() -> None:
    assert webhooks.batch_id(["a", "b"]) == webhooks.batch_id(["a", "b"])
    assert webhooks.batch_id(["a", "b"]) != webhooks.batch_id(["b", "a"])
    assert webhooks.batch_id(["a"]) == "a"


@pytest.mark.parametrize(
    "url",
    ["https://acme.example/hooks?a=1", "http://acme.example", "https://acme.example:443/", "http://[2001:db8::1]/"],
)
def test_a_plain_url_is_read(url: str) -> None:
    assert read_url(url).hostname


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://acme.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("acme.example/hooks", "scheme"),
        ("https://user@acme.example/", "user"),
        ("https://acme.example@10.0.0.1/", "user"),
        ("https://acme.example:8443/", "port"),
        ("http://acme.example:443/", "port"),
        ("https:///hooks", "malformed"),
        ("https://acme.example\\@10.0.0.1/", "malformed"),
        ("https://acme.example/#part", "malformed"),
        ("https://acme.example/a b", "malformed"),
        ("https://acme.example/\r\nHost: evil", "malformed"),
        ("https://acme.example:99999/", "malformed"),
        ("https://[::1/", "malformed"),
        ("http://2852039166/", "malformed"),
        ("http://0xa9fea9fe./", "malformed"),
        ("http://0251.0376.0251.0376/", "malformed"),
        ("http://169.254.43518/", "malformed"),
        ("http://127.1/", "malformed"),
    ],
)
def test_other_urls_are_not(url: str, reason: str) -> None:
    with pytest.raises(UrlUnusable) as refused:
        read_url(url)

    assert refused.value.reason == reason


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
def test_the_calls_of_an_event_span_more_than_a_day_with_growing_gaps(jitter: float) -> None:
    schedule = CallSchedule.parse(webhooks.DEFAULT_SCHEDULE)
    waits = []
    calls = 1
    while (wait := schedule.wait_after(calls, jitter=jitter)) is not None:
        waits.append(wait)
        calls += 1

    assert sum(waits, timedelta()) >= timedelta(hours=24)
    assert waits == sorted(waits)
    assert len(waits) == 10


def test_an_endpoint_may_ask_for_a_longer_wait_but_not_for_ever() -> None:
    schedule = CallSchedule.parse("5s,10s")

    assert schedule.wait_after(1, jitter=0, asked_for=timedelta(minutes=5)) == timedelta(minutes=5)
    assert schedule.wait_after(1, jitter=0, asked_for=timedelta(days=9)) == timedelta(hours=1)
    assert schedule.wait_after(1, jitter=0, asked_for=timedelta(0)) == timedelta(seconds=5)


def test_an_endpoint_rests_longer_and_longer_after_several_failures() -> None:
    rests = [webhooks.rest_after(failures, jitter=0) for failures in (1, 4, 5, 6, 7, 40)]

    assert rests[:2] == [None, None]
    assert rests[2:] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20), timedelta(minutes=10)]


def test_days_of_failure_are_for_good() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    patience = timedelta(days=5)

    assert not webhooks.has_failed_for_good(None, now=now, patience=patience)
    assert not webhooks.has_failed_for_good(now - timedelta(days=4), now=now, patience=patience)
    assert webhooks.has_failed_for_good(now - timedelta(days=5), now=now, patience=patience)
