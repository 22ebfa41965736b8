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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.crash import results
from bench.crash.faults import FAULTS, Fault
from bench.crash.field import Skipped, open_field
from bench.crash.rounds import rounds_under_load
from bench.support import surroundings
from bench.support.surroundings import say


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
            count = min(left, fault.rounds_in_a_period)
            left -= count
            chance = random.Random(f"{seed}/{left}")
            verdict = rounds_under_load(field, fault, count, chance, every_s=options.every)
            record = results.record(name, verdict, rounds=count, seed=options.seed, postgresql=durability)
            records.append(record)
            results.append(options.append, record)
            if options.log:
                results.write_log(options.log, field.relay.stack.log)
            say(results.sentence(record))
    return records


if __name__ == "__main__":
    sys.exit(main())
