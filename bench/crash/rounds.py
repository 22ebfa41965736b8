"""A period of load with some rounds of a fault in it, and its verdict."""

from __future__ import annotations

import random
import time

from bench.crash import checking
from bench.crash.checking import Struck, Verdict
from bench.crash.faults import Fault
from bench.crash.field import Field
from bench.support.surroundings import say

_FLOWS_WITHIN_S = 60.0


def rounds_under_load(
    field: Field, fault: Fault, rounds: int, chance: random.Random, *, every_s: float, accepts: int = 0
) -> Verdict:
    """So many rounds under load, then the end of the load, delivery of everything, and the comparison.

    ``accepts``: the load goes on until so many mails were accepted, or for a minute.
    """
    period = checking.begin(field)
    field.feed(
        fault.hosts,
        sessions=fault.sessions,
        api_sessions=fault.api_sessions,
        every_s=every_s,
        cuts=fault.client_cuts,
    )
    _wait_for_flow(field, period, ("ok", "dot"), since=period.since)
    strokes: list[Struck] = []
    for _ in range(rounds):
        time.sleep(chance.random() * fault.window_s)
        thrown = fault.throw(field, chance)
        strokes += thrown
        if not thrown:
            say("the fault found nothing to hit")
            continue
        # Where all of a part is away, its first sign of life is waited for: else the next kill would only hit its start.
        if fault.waits_for_progress or len(strokes[-1].parts) > 1:
            _wait_for_flow(field, period, strokes[-1].progress, since=time.monotonic())
    _wait_for_returns(field, strokes)
    for stroke in strokes[-1:]:
        _wait_for_flow(field, period, stroke.progress, since=time.monotonic())
    _wait_for_acceptance(field, period, accepts)
    field.stop_feeding()
    _drain(field, within_s=fault.drain_s)
    return checking.judge(field, period, strokes, cuts=fault.cuts, orderly=fault.is_orderly)


def _wait_for_flow(field: Field, period: checking.Period, kinds: tuple[str, ...], *, since: float) -> None:
    """Until a fact of each kind has come since that moment, or for a minute: the verdict then says that it did not."""
    deadline = time.monotonic() + _FLOWS_WITHIN_S
    while time.monotonic() < deadline:
        facts = [*reversed(field.sent.read()), *reversed(field.taken.read())]
        recent = {fact.kind for fact in facts if fact.at > since}
        if recent.issuperset(kinds):
            return
        time.sleep(0.1)
    say(f"no {' and '.join(kinds)} within {_FLOWS_WITHIN_S:g} s")


def _wait_for_acceptance(field: Field, period: checking.Period, count: int) -> None:
    deadline = time.monotonic() + _FLOWS_WITHIN_S
    while time.monotonic() < deadline:
        if sum(fact.kind == "ok" for fact in field.sent.read()[period.sent :]) >= count:
            return
        time.sleep(0.1)


def _wait_for_returns(field: Field, strokes: list[Struck]) -> None:
    deadline = time.monotonic() + _FLOWS_WITHIN_S
    while time.monotonic() < deadline and any(checking.back_at(one, field.watch.ups) is None for one in strokes):
        time.sleep(0.1)


def _drain(field: Field, *, within_s: float) -> None:
    """Until nothing is open any more; what is still open then, the verdict looks at."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if field.rows("SELECT count(*) FROM delivery_queue_entry")[0][0] == 0:
            break
        time.sleep(0.3)
    while field.is_told and time.monotonic() < deadline and checking.untold(field):
        time.sleep(0.5)
    # What a host wrote into its ledger last, and what the peer said then.
    time.sleep(0.5)
