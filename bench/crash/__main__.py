"""script/prove: throws faults at a whole relayweb under load and compares what was promised with what arrived.

    script/prove --fault gate --fault worker --rounds 20 --seed 1 --append proof.jsonl

Without --fault all of them, one after the other. What each period of load showed is added as a line to the file of --append as
soon as it is known, so that a run can be ended at any time and gone on with later, with another --seed; the table at the end is
that of the whole file. The exit code is 1 when an invariant was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.crash import checking, results
from bench.crash.checking import Struck, Verdict
from bench.crash.faults import FAULTS, Fault
from bench.crash.field import Field, Skipped, open_field
from bench.support import surroundings
from bench.support.surroundings import say

_FLOWS_WITHIN_S = 60.0


def main() -> int:
    options = _options()
    if options.table:
        print(results.table(results.read(options.append)))
        return 0
    surroundings.enter()
    records = []
    for name in options.fault or FAULTS:
        try:
            records += _prove(name, FAULTS[name], options)
        except Skipped as reason:
            say(f"{name}: skipped, {reason}")
    print(results.table(results.read(options.append) if options.append else records))
    return 0 if all(record["is_kept"] for record in records) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="may be repeated; all if not given")
    parser.add_argument("--rounds", type=int, default=5, help="of each fault (5)")
    parser.add_argument("--seed", default="1", help="of everything that is drawn by lot (1)")
    parser.add_argument("--append", type=Path, help="file of results, JSON lines")
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two mails of a session (0.3)")
    parser.add_argument("--log", type=Path, help="file for what relayweb wrote meanwhile")
    parser.add_argument("--table", action="store_true", help="only show what the file of --append holds")
    options = parser.parse_args()
    if options.table and not options.append:
        parser.error("--table needs --append")
    return options


def _prove(name: str, fault: Fault, options: argparse.Namespace) -> list[dict[str, object]]:
    records = []
    seed = f"{options.seed}/{name}"
    with (
        surroundings.folder("crash") as folder,
        open_field(folder, seed=seed, needs=fault.needs, tells=fault.tells) as field,
    ):
        durability = surroundings.durability(field.relay.database)
        left = options.rounds
        while left > 0:
            rounds = min(left, fault.rounds_in_a_period)
            left -= rounds
            chance = random.Random(f"{seed}/{left}")
            verdict = _period(field, fault, rounds, chance, every_s=options.every)
            record = results.record(name, verdict, rounds=rounds, seed=options.seed, postgresql=durability)
            records.append(record)
            results.append(options.append, record)
            if options.log:
                results.write_log(options.log, field.relay.stack.log)
            say(results.sentence(record))
    return records


def _period(field: Field, fault: Fault, rounds: int, chance: random.Random, *, every_s: float) -> Verdict:
    """So many rounds under load, then the end of the load, delivery of everything, and the comparison."""
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


def _wait_for_returns(field: Field, strokes: list[Struck]) -> None:
    wanted = {part for stroke in strokes for part in stroke.parts}
    deadline = time.monotonic() + _FLOWS_WITHIN_S
    while time.monotonic() < deadline and not wanted <= field.watch.look().keys():
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


if __name__ == "__main__":
    sys.exit(main())
