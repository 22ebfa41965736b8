"""The ledgers of client and receiving hosts, held against what relayweb says became of each mail.

- INV-1: what was answered 250 is in a final state, or open with a time of its next attempt. What is not is *lost*.
- INV-2: nothing arrives that was not handed over; what was refused with 5yz never arrives.
- INV-3: a mail arrives twice only where the first copy's answer was not seen to be read when a fault struck (or where the
  receiving host itself cut the connection there), and its attempts are marked ambiguous. Every other second copy is *forbidden*.
- INV-4: what is said to be delivered was taken by the host and the other way round; a final state is reached once.
- INV-5: the receiver of webhooks was told of every final state, repeats carry the same id.
- INV-6: the first progress is within 30 s after the killed part is back; nothing stays with a dead owner past lease and sweep.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from bench.crash.field import LEASE_S, SWEEP_S, Field, Up
from bench.crash.ledger import Fact

PROGRESS_WITHIN_S = 30.0
# Beside lease and sweep: the poll that measures, and a machine that is busy with the restart itself.
STRANDED_AT_MOST_S = LEASE_S + SWEEP_S + 5.0
_OPEN = {"queued", "deferred", "held"}
_EXAMPLES = 5
# A host that waits for its disk, on a machine that is busy with a crash, writes a mail down so long after it was sent.
_READ_LATE_S = 5.0
_IN_FLIGHT_AT_MOST_S = 60.0

_RECIPIENTS = """SELECT address, state, has_ambiguous_attempt,
                        EXISTS (SELECT 1 FROM delivery_queue_entry WHERE recipient_id = recipient.id)
                 FROM delivery_recipient recipient ORDER BY id"""
_FINAL_TWICE = """SELECT recipient_id FROM delivery_event
                  WHERE kind IN ('delivered', 'bounced', 'expired', 'suppressed', 'cancelled')
                  GROUP BY 1 HAVING count(*) > 1"""
_EVENTS = """SELECT recipient_id::text || '/' || kind FROM delivery_event
             WHERE kind IN ('delivered', 'bounced', 'expired')"""


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault. ``parts`` are the processes that it took away, by name; ``progress`` the kinds of facts that must come again.

    ``repeats`` says that it hit somebody who delivers: only then may what was past the final dot come a second time.
    ``takes_marks``: and the database with him, whose last marks of final dots may not have been on disk.
    """

    at: float
    parts: tuple[str, ...] = ()
    progress: tuple[str, ...] = ("ok", "dot")
    repeats: bool = False
    takes_marks: bool = False
    ended_at: float | None = None  # where the fault is a state that was ended, such as a stopped process


@dataclass
class Verdict:
    """What a period of load with its faults showed. Durations in seconds."""

    kills: int = 0  # processes that were taken away
    messages: int = 0
    accepted: int = 0
    refused: int = 0
    cut_off: int = 0
    broken_off: int = 0  # of those, in the content or before the answer to it
    is_orderly: bool = False
    copies: int = 0
    lost: int = 0
    duplicated: int = 0
    forbidden: int = 0  # of the duplicated
    allowed: int = 0  # transactions past the dot whose answer was not seen to be read when a fault struck
    unlabelled: int = 0  # duplicated without an ambiguous attempt
    unmarked: int = 0  # the same where the mark was lost with the database
    invented: int = 0
    mismatched: int = 0
    final_twice: int = 0
    told: int = 0  # calls of events, repeats counted
    untold: int = 0
    refused_for_good: int = 0
    longest_stranded_s: float = 0.0
    recoveries_s: list[float] = field(default_factory=list)  # from the fault to the first progress
    progress_s: list[float] = field(default_factory=list)  # from the part's return to the first progress
    never_back: int = 0
    still_open: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_honest(self) -> bool:
        """Whether nothing was lost, made up, repeated or told wrongly: everything but how long it took."""
        return not any(
            (
                self.lost,
                self.forbidden,
                self.unlabelled,
                self.invented,
                self.mismatched,
                self.final_twice,
                self.untold,
                self.refused_for_good,
                self.is_orderly and self.broken_off,
            )
        )

    @property
    def is_in_time(self) -> bool:
        return (
            not self.never_back
            and self.longest_stranded_s <= STRANDED_AT_MOST_S
            and all(seconds <= PROGRESS_WITHIN_S for seconds in self.progress_s)
        )

    @property
    def is_kept(self) -> bool:
        """Whether every invariant held."""
        return self.is_honest and self.is_in_time

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"is_kept": self.is_kept}

    def find(self, name: str, found: Sequence[str]) -> int:
        if found:
            self.examples[name] = sorted(found)[:_EXAMPLES]
        return len(found)


@dataclass(frozen=True)
class Period:
    """From which fact of each ledger on it is this period's."""

    sent: int
    taken: int
    since: float


def begin(field: Field) -> Period:
    return Period(len(field.sent.read()), len(field.taken.read()), time.monotonic())


def judge(
    field: Field, period: Period, strokes: Sequence[Struck], *, cuts: bool = False, orderly: bool = False
) -> Verdict:
    """``cuts`` says that the receiving hosts cut connections themselves, so that second copies need no fault beside.

    An ``orderly`` fault is a restart in which no mail may be cut off once its content is on its way.
    """
    verdict = Verdict(is_orderly=orderly, kills=sum(len(stroke.parts) or 1 for stroke in strokes))
    sent = field.sent.read()[period.sent :]
    taken = field.taken.read()[period.taken :]
    tried = {fact.words[0] for fact in sent if fact.kind == "try"}
    accepted = {fact.words[0] for fact in sent if fact.kind == "ok"}
    refused = {fact.words[0]: int(fact.words[1]) for fact in sent if fact.kind == "no"}
    said = _said(field, tried)
    copies: defaultdict[str, list[_Copy]] = defaultdict(list)
    for copy in _copies(taken):
        copies[copy.recipient].append(copy)

    verdict.messages, verdict.accepted = len(tried), len(accepted)
    verdict.refused = sum(fact.kind == "no" for fact in sent)
    verdict.cut_off = sum(fact.kind == "lost" for fact in sent)
    verdict.broken_off = sum(fact.kind == "lost" and fact.words[1] in {"data", "dot"} for fact in sent)
    verdict.copies = sum(map(len, copies.values()))
    verdict.still_open = sum(rows[0].state in _OPEN for rows in said.values())
    verdict.lost = verdict.find("lost", [one for one in accepted if not _is_kept(said.get(one, []))])
    known = {fact.words[0] for fact in field.sent.facts if fact.kind == "try"}
    for_good = {one for one, code in refused.items() if code >= 500 and one not in accepted}
    verdict.refused_for_good = verdict.find("refused_for_good", [f"{one} {refused[one]}" for one in for_good])
    verdict.invented = verdict.find("invented", [one for one in copies if one not in known or one in for_good])
    _judge_duplicates(verdict, copies, said, strokes, cuts=cuts)
    _judge_states(verdict, field, copies, said)
    _judge_recovery(verdict, field, period, strokes, sent, taken)
    return verdict


# ---------------------------------------------------------------- what relayweb says


@dataclass(frozen=True, slots=True)
class _Said:
    state: str
    is_ambiguous: bool
    is_queued: bool  # with a time of its next attempt, which the column always has


def _said(field: Field, tried: set[str]) -> dict[str, list[_Said]]:
    said: defaultdict[str, list[_Said]] = defaultdict(list)
    for address, *row in field.rows(_RECIPIENTS):
        if address in tried:
            said[address].append(_Said(*row))
    return said


def _is_kept(rows: list[_Said]) -> bool:
    return bool(rows) and all(row.state not in _OPEN or row.is_queued for row in rows)


# ---------------------------------------------------------------- what the hosts took


@dataclass(slots=True)
class _Copy:
    recipient: str
    at: float
    read_at: float | None = None


def _copies(taken: Sequence[Fact]) -> list[_Copy]:
    found: list[_Copy] = []
    of_connection: dict[tuple[str, str], _Copy] = {}
    for fact in taken:
        where = (fact.words[0], fact.words[1])
        if fact.kind == "dot":
            of_connection[where] = copy = _Copy(fact.words[1], fact.at)
            found.append(copy)
        elif fact.kind == "seen" and where in of_connection:
            of_connection[where].read_at = fact.at
    return found


def _judge_duplicates(
    verdict: Verdict,
    copies: dict[str, list[_Copy]],
    said: dict[str, list[_Said]],
    strokes: Sequence[Struck],
    *,
    cuts: bool,
) -> None:
    everything = [copy for several in copies.values() for copy in several]
    strokes = [stroke for stroke in strokes if stroke.repeats]
    verdict.allowed = sum(any(_is_struck(copy, stroke) for stroke in strokes) for copy in everything)
    if cuts:
        verdict.allowed += sum(copy.read_at is None for copy in everything)
    forbidden, unlabelled = [], []
    for recipient, several in copies.items():
        for first, second in pairwise(several):
            verdict.duplicated += 1
            between = [stroke for stroke in strokes if _lies_between(stroke, first, second)]
            is_excused = cuts or bool(between)
            # What follows on a connection follows the settlement: whoever sent it knew that the mail was taken.
            if (first.read_at is not None and first.read_at < second.at) or not is_excused:
                forbidden.append(f"{recipient} {first.at:.2f} (read {first.read_at}) and {second.at:.2f}")
            elif not any(row.is_ambiguous for row in said.get(recipient, [])):
                if any(stroke.takes_marks for stroke in between):
                    verdict.unmarked += 1
                else:
                    unlabelled.append(recipient)
    verdict.forbidden = verdict.find("forbidden", forbidden)
    verdict.unlabelled = verdict.find("unlabelled", unlabelled)


def _lies_between(stroke: Struck, first: _Copy, second: _Copy) -> bool:
    """What had left us when we were killed may be read a moment later."""
    return first.at <= (stroke.ended_at or stroke.at) + _READ_LATE_S and second.at >= stroke.at


def _is_struck(copy: _Copy, stroke: Struck) -> bool:
    """Whether the fault came between the final dot and the moment at which the answer was known."""
    was_read = copy.read_at is not None and (stroke.ended_at is None or copy.read_at < stroke.ended_at)
    return stroke.at - _IN_FLIGHT_AT_MOST_S < copy.at <= (stroke.ended_at or stroke.at) + _READ_LATE_S and not was_read


# ---------------------------------------------------------------- states


def _judge_states(verdict: Verdict, field: Field, copies: dict[str, list[_Copy]], said: dict[str, list[_Said]]) -> None:
    mismatched = []
    for recipient, rows in said.items():
        delivered = sum(row.state == "delivered" for row in rows)
        is_uncertain = any(row.is_ambiguous for row in rows)
        taken = len(copies.get(recipient, []))
        # A mail that was given up or waits may have been taken where its attempts say so themselves.
        if delivered > taken or (taken and not delivered and not is_uncertain) or len(rows) > 1:
            mismatched.append(f"{recipient} {[row.state for row in rows]} {taken}")
    mismatched += [recipient for recipient in copies if recipient not in said]
    verdict.mismatched = verdict.find("mismatched", mismatched)
    verdict.final_twice = verdict.find("final_twice", [str(row[0]) for row in field.rows(_FINAL_TWICE)])
    if field.is_told:
        verdict.told = len(field.told.read())
        verdict.untold = verdict.find("untold", sorted(untold(field)))


def untold(field: Field) -> set[str]:
    """Events that the receiver of webhooks was not told of, or under different ids."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for fact in field.told.read():
        ids[fact.words[0]].add(fact.words[1])
    return {event for (event,) in field.rows(_EVENTS) if len(ids[event]) != 1}


# ---------------------------------------------------------------- recovery


def _judge_recovery(
    verdict: Verdict,
    field: Field,
    period: Period,
    strokes: Sequence[Struck],
    sent: Sequence[Fact],
    taken: Sequence[Fact],
) -> None:
    moments = {
        "ok": [fact.at for fact in sent if fact.kind == "ok"],
        "posted": [fact.at for fact in sent if fact.kind == "ok" and fact.words[-1] == "http"],
        "dot": [fact.at for fact in taken if fact.kind == "dot"],
    }
    never = []
    for stroke in strokes:
        back = back_at(stroke, field.watch.ups)
        firsts = [_first_after(moments[kind], back) for kind in stroke.progress] if back is not None else [None]
        if back is None or any(first is None for first in firsts):
            never.append(f"{'+'.join(stroke.parts)} {stroke.at - period.since:.1f}")
            continue
        last = max([back, *[first for first in firsts if first is not None]])
        verdict.recoveries_s.append(round(last - stroke.at, 2))
        verdict.progress_s.append(round(last - back, 2))
    verdict.never_back = verdict.find("never_back", never)
    verdict.longest_stranded_s = round(field.watch.longest_stranded_s, 2)
    field.watch.longest_stranded_s = 0.0


def back_at(stroke: Struck, ups: Sequence[Up]) -> float | None:
    """When the last of the parts that were taken away had come up again; the end of the fault where there was none."""
    moments = [next((up.at for up in ups if up.part == part and up.at > stroke.at), None) for part in stroke.parts]
    if any(moment is None for moment in moments):
        return None
    return max([stroke.ended_at or stroke.at, *[moment for moment in moments if moment is not None]])


def _first_after(moments: Sequence[float], moment: float) -> float | None:
    return next((at for at in moments if at > moment), None)
