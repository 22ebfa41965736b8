"""What script/prove makes of two ledgers and of what relayweb says: each broken promise is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.crash import checking
from bench.crash.checking import Period, Struck, Verdict, judge
from bench.crash.field import Up
from bench.crash.ledger import Fact

MAIL = "1-1@good-0.example"


@dataclass
class _Reader:
    facts: list[Fact]

    def read(self) -> list[Fact]:
        return self.facts


@dataclass
class _Watch:
    ups: list[Up]
    longest_stranded_s: float = 0.0


@dataclass
class Ledgers:
    """In the place of a field: what its client and its host wrote down, and what relayweb says."""

    sent: _Reader
    taken: _Reader
    states: list[tuple[str, str, bool, bool]]
    watch: _Watch = field(default_factory=lambda: _Watch([]))
    is_told: bool = False

    def rows(self, sql: str) -> list[Any]:
        return list(self.states) if "FROM delivery_recipient" in sql else []


def _facts(*lines: str) -> _Reader:
    split = [line.split(" ") for line in lines]
    return _Reader([Fact(kind, float(at), tuple(words)) for kind, at, *words in split])


def _verdict(
    taken: tuple[str, ...],
    *,
    sent: tuple[str, ...] = (f"try 1.0 {MAIL}", f"ok 1.1 {MAIL} smtp"),
    state: str | None = "delivered",
    is_ambiguous: bool = False,
    strokes: tuple[Struck, ...] = (),
) -> Verdict:
    said = [] if state is None else [(MAIL, state, is_ambiguous, state == "queued")]
    ledgers = Ledgers(_facts(*sent), _facts(*taken), said)
    return judge(ledgers, Period(0, 0, 0.0), strokes)  # type: ignore[arg-type]


ONCE = (f"dot 2.0 1 {MAIL}", f"seen 2.1 1 {MAIL}")
WORKER_DIED = Struck(2.05, (), (), repeats=True)
GATE_DIED = Struck(2.05, (), ())


def test_a_mail_that_arrived_once_breaks_nothing() -> None:
    assert _verdict(ONCE).is_kept


@pytest.mark.parametrize("state", [None, "deferred"])
def test_a_mail_that_nobody_knows_of_or_will_try_again_is_lost(state: str | None) -> None:
    assert _verdict((), state=state).lost == 1


def test_a_mail_that_waits_for_its_next_attempt_is_not_lost() -> None:
    assert _verdict((), state="queued").is_kept


def test_a_mail_that_is_said_to_be_delivered_and_was_not_taken_is_found() -> None:
    assert _verdict(()).mismatched == 1


def test_a_mail_that_was_taken_and_is_said_to_have_bounced_is_found() -> None:
    assert _verdict(ONCE, state="bounced").mismatched == 1


def test_a_mail_that_was_refused_for_good_and_arrives_is_found() -> None:
    verdict = _verdict(ONCE, sent=(f"try 1.0 {MAIL}", f"no 1.1 {MAIL} 550"))

    assert (verdict.invented, verdict.refused_for_good) == (1, 1)


TWICE = (f"dot 2.0 1 {MAIL}", f"dot 9.0 2 {MAIL}", f"seen 9.1 2 {MAIL}")


def test_a_second_copy_is_allowed_where_a_worker_died_before_the_answer_was_known() -> None:
    verdict = _verdict(TWICE, is_ambiguous=True, strokes=(WORKER_DIED,))

    assert verdict.is_kept
    assert (verdict.duplicated, verdict.allowed) == (1, 1)


def test_a_second_copy_that_is_not_marked_ambiguous_is_found() -> None:
    assert _verdict(TWICE, strokes=(WORKER_DIED,)).unlabelled == 1


@pytest.mark.parametrize("strokes", [(), (GATE_DIED,)])
def test_a_second_copy_is_forbidden_where_nobody_died_who_delivers(strokes: tuple[Struck, ...]) -> None:
    assert _verdict(TWICE, is_ambiguous=True, strokes=strokes).forbidden == 1


def test_a_second_copy_is_forbidden_once_the_answer_to_the_first_was_read() -> None:
    taken = (*ONCE, f"dot 9.0 2 {MAIL}", f"seen 9.1 2 {MAIL}")

    assert _verdict(taken, is_ambiguous=True, strokes=(WORKER_DIED,)).forbidden == 1


def test_a_part_that_does_not_come_back_in_time_is_found() -> None:
    sent = (f"try 1.0 {MAIL}", f"ok 1.1 {MAIL} smtp", f"ok {50 + checking.PROGRESS_WITHIN_S} {MAIL} smtp")
    ledgers = Ledgers(_facts(*sent), _facts(*ONCE), [(MAIL, "delivered", False, False)])
    stroke = Struck(5.0, ("gate-1",), ("ok",))

    assert judge(ledgers, Period(0, 0, 0.0), [stroke]).never_back == 1  # type: ignore[arg-type]
    ledgers.watch.ups.append(Up("gate-1", 7, 40.0))
    assert not judge(ledgers, Period(0, 0, 0.0), [stroke]).is_in_time  # type: ignore[arg-type]
    ledgers.watch.ups[0] = Up("gate-1", 7, 60.0)
    assert judge(ledgers, Period(0, 0, 0.0), [stroke]).is_kept  # type: ignore[arg-type]
