from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.core.classification import Action, ReplyClass
from delivery.core.outcome import Outcome, hinted_wait, judge
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up
from delivery.core.retry import RetrySchedule
from delivery.core.states import FINAL, RecipientState

ACCEPTED_AT = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)
NOW = ACCEPTED_AT + timedelta(minutes=1)
SCHEDULE = RetrySchedule.parse("5m,10m,1h", timedelta(days=1))
DEADLINE = ACCEPTED_AT + SCHEDULE.lifetime


def said(phase: Phase, line: str) -> Reply:
    return from_lines(phase, [line.encode()])


def judged(
    reply: Reply, *, attempts: int = 1, now: datetime = NOW, is_ambiguous: bool = False, provider_group: str = ""
) -> Outcome:
    return judge(
        reply,
        provider_group=provider_group,
        attempts=attempts,
        accepted_at=ACCEPTED_AT,
        schedule=SCHEDULE,
        now=now,
        is_ambiguous=is_ambiguous,
    )


def wait_after(outcome: Outcome, now: datetime = NOW) -> timedelta:
    assert outcome.next_attempt_at is not None
    return outcome.next_attempt_at - now


def test_it_delivers_when_the_host_takes_the_data() -> None:
    reply = said(Phase.EOD, "250 2.0.0 ok")

    assert judged(reply) == Outcome(RecipientState.DELIVERED, reply, None, None)


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONNECT])
def test_a_positive_reply_elsewhere_delivers_nothing(phase: Phase) -> None:
    assert judged(said(phase, "250 ok")).state is RecipientState.DEFERRED


def test_a_positive_reply_that_asks_for_more_delivers_nothing() -> None:
    assert judged(said(Phase.EOD, "354 go on")).state is RecipientState.DEFERRED


def test_it_defers_when_the_host_answers_451() -> None:
    outcome = judged(said(Phase.RCPT, "451 4.3.0 try later"))

    assert outcome.state is RecipientState.DEFERRED
    assert wait_after(outcome) == timedelta(minutes=5)


def test_it_bounces_when_the_mailbox_is_unknown() -> None:
    outcome = judged(said(Phase.RCPT, "550 5.1.1 no such user"))

    assert outcome.state is RecipientState.BOUNCED
    assert outcome.next_attempt_at is None
    assert outcome.classification is not None
    assert outcome.classification.action is Action.FAIL_AND_SUPPRESS


def test_it_bounces_on_a_dead_domain_at_once() -> None:
    reply = made_up(Phase.ROUTING, 550, "5.1.2", "no such domain", Origin.DNS)

    assert judged(reply).state is RecipientState.BOUNCED


def test_a_permanent_refusal_of_our_address_is_temporary_for_the_mail() -> None:
    outcome = judged(said(Phase.RCPT, "550 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org"))

    assert outcome.state is RecipientState.DEFERRED
    assert outcome.classification is not None
    assert outcome.classification.action is Action.SUSPEND


def test_an_unknown_permanent_reply_is_tried_until_the_lifetime_ends() -> None:
    reply = said(Phase.RCPT, "550 Nope")

    assert judged(reply, attempts=9).state is RecipientState.DEFERRED
    assert judged(reply, attempts=30, now=DEADLINE).state is RecipientState.EXPIRED


def test_the_waits_follow_the_schedule() -> None:
    reply = said(Phase.RCPT, "451 sorry")

    waits = [wait_after(judged(reply, attempts=attempts)) for attempts in (1, 2, 3, 4)]

    assert waits == [timedelta(minutes=minutes) for minutes in (5, 10, 60, 60)]


def test_a_last_attempt_is_made_when_the_lifetime_ends() -> None:
    now = DEADLINE - timedelta(minutes=20)

    outcome = judged(said(Phase.RCPT, "451 sorry"), attempts=8, now=now)

    assert outcome.state is RecipientState.DEFERRED
    assert outcome.next_attempt_at == DEADLINE


@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=30)])
def test_it_expires_only_by_a_failed_attempt_at_the_end(late: timedelta) -> None:
    reply = said(Phase.RCPT, "451 sorry")

    outcome = judged(reply, attempts=9, now=DEADLINE + late)

    assert outcome.state is RecipientState.EXPIRED
    assert outcome.reply is reply
    assert outcome.classification is not None and outcome.classification.reply_class is ReplyClass.EXPIRED
    assert outcome.cause is not None and outcome.cause.reply_class is ReplyClass.TRANSIENT


def test_an_attempt_after_the_lifetime_may_still_deliver_or_bounce() -> None:
    assert judged(said(Phase.EOD, "250 ok"), now=DEADLINE + timedelta(days=1)).state is RecipientState.DELIVERED
    assert judged(said(Phase.RCPT, "550 5.1.1 x"), now=DEADLINE + timedelta(days=1)).state is RecipientState.BOUNCED


def test_a_greylisted_recipient_comes_back_from_the_same_address_at_the_named_time() -> None:
    outcome = judged(said(Phase.RCPT, "450 4.2.0 Greylisted for 60 seconds"), attempts=3)

    assert outcome.stays_on_source
    assert wait_after(outcome) == timedelta(seconds=62)


def test_a_host_that_greylists_for_ever_is_met_by_the_schedule() -> None:
    outcome = judged(said(Phase.RCPT, "450 4.2.0 Greylisted for 1 second"), attempts=6)

    assert wait_after(outcome) == timedelta(hours=1)


def test_a_hint_can_only_lengthen_other_waits() -> None:
    assert wait_after(judged(said(Phase.MAIL, "421 busy, try again in 15 minutes"))) == timedelta(minutes=15)
    assert wait_after(judged(said(Phase.MAIL, "421 busy, try again in 10 seconds"))) == timedelta(minutes=5)


def test_an_ambiguous_attempt_waits_for_the_next_step_of_the_schedule() -> None:
    lost = made_up(Phase.EOD, 421, "4.4.2", "connection lost after the data", Origin.NETWORK)

    outcome = judged(lost, attempts=2, is_ambiguous=True)

    assert (outcome.state, outcome.is_ambiguous) == (RecipientState.DEFERRED, True)
    assert wait_after(outcome) == timedelta(minutes=10)


def test_too_many_recipients_are_split_at_once_and_then_by_the_schedule() -> None:
    reply = said(Phase.RCPT, "452 4.5.3 Too many recipients")

    assert wait_after(judged(reply)) == timedelta(0)
    assert wait_after(judged(reply, attempts=2)) == timedelta(minutes=10)


def test_denied_relaying_is_tried_over_fresh_routes_before_it_bounces() -> None:
    reply = said(Phase.RCPT, "554 5.7.1 Relay access denied")

    states = [judged(reply, attempts=attempts).state for attempts in (1, 2, 3, 4)]

    assert wait_after(judged(reply)) == timedelta(0)
    assert states == [RecipientState.DEFERRED] * 3 + [RecipientState.BOUNCED]


@pytest.mark.parametrize("line", ["530 5.7.0 Must issue a STARTTLS command first", "550 5.7.10 sorry"])
def test_a_demand_for_encryption_never_bounces(line: str) -> None:
    assert judged(said(Phase.MAIL, line), attempts=9).state is RecipientState.DEFERRED


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("451 Greylisted, try again in 300 seconds", timedelta(seconds=300)),
        ("451 try again in 5 minutes", timedelta(minutes=5)),
        ("451 Please retry after 2 hours", timedelta(hours=2)),
        ("451 greylisted for 5m", timedelta(minutes=5)),
        ("450 Greylisting in effect, please come back in 00:04:30", timedelta(minutes=4, seconds=30)),
        ("421 try again in 900 hours", timedelta(hours=24)),
        ("451 try again later", None),
        ("451 try again in 0 seconds", None),
        ("451 4.7.1 try again later; id 12 s", timedelta(seconds=12)),
        ("451 error 300", None),
    ],
)
def test_it_understands_how_long_to_wait(text: str, wait: timedelta | None) -> None:
    assert hinted_wait(said(Phase.RCPT, text)) == wait


def test_hints_of_our_own_are_not_taken() -> None:
    assert hinted_wait(made_up(Phase.CONNECT, 421, None, "try again in 5 minutes", Origin.OWN)) is None


@given(
    phase=st.sampled_from(Phase),
    origin=st.sampled_from(Origin),
    code=st.integers(200, 599),
    text=st.text(max_size=60),
    attempts=st.integers(0, 50),
    age=st.timedeltas(timedelta(days=-1), timedelta(days=3)),
    is_ambiguous=st.booleans(),
)
def test_any_reply_has_exactly_one_meaning(
    phase: Phase, origin: Origin, code: int, text: str, attempts: int, age: timedelta, is_ambiguous: bool
) -> None:
    reply = Reply(phase, code, text, None, origin)
    now = ACCEPTED_AT + age

    outcome = judged(reply, attempts=attempts, now=now, is_ambiguous=is_ambiguous)

    assert (outcome.state in FINAL) == (outcome.next_attempt_at is None)
    assert (outcome.state is RecipientState.DELIVERED) == (phase is Phase.EOD and code < 300)
    assert outcome.state is not RecipientState.BOUNCED or code >= 500
    assert outcome.next_attempt_at is None or now <= outcome.next_attempt_at <= DEADLINE
