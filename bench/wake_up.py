"""How soon an idle relayweb connects to the receiving host after it has given its `250`.

    sudo .venv/bin/python bench/wake_up.py [--mails 200] [--every 0.25]

One mail after the other is handed over, with a rest between them, in two series: to one known domain, whose host is left after
every mail so that each needs a connection of its own; and each to another domain that relayweb has never heard of, which
costs a question to the DNS, new rows and a new path besides. The clock runs from the `250` to the connection at the host.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import surroundings
from bench.support.counting_sink import CountingSink
from bench.support.feeder import Load, feed
from bench.support.names import Names
from bench.support.relay import Relay, free_port, running
from bench.support.surroundings import percentile, say

_HOST = "127.9.0.1"
_KNOWN = "known.example"
_GOAL_P50_MS, _GOAL_P95_MS = 50, 150


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mails", type=int, default=200, help="in each series")
    parser.add_argument("--every", type=float, default=0.25, help="seconds of rest between two mails")
    options = parser.parse_args()
    surroundings.enter()
    port = free_port()
    series = {
        "known": [f"r{n}@{_KNOWN}" for n in range(options.mails)],
        "new": [f"r@new{n}.example" for n in range(options.mails)],
    }
    hosts = {recipient.partition("@")[2]: _HOST for recipients in series.values() for recipient in recipients}
    with (
        surroundings.folder("wake-up") as folder,
        CountingSink(_HOST, port) as sink,
        Names(hosts) as names,
        running(folder, outbound_port=port, dns=names.address) as relay,
    ):
        _make_known(relay, sink)
        figures: dict[str, object] = {"mails": options.mails}
        are_met = []
        for name, recipients in series.items():
            say(f"series {name}")
            time.sleep(2)
            delays = _delays_ms(relay, sink, recipients, every_s=options.every)
            p50, p95 = percentile(delays, 0.5), percentile(delays, 0.95)
            figures |= {f"{name}_p50_ms": p50, f"{name}_p95_ms": p95, f"{name}_most_ms": max(delays)}
            are_met.append(p50 <= _GOAL_P50_MS and p95 <= _GOAL_P95_MS)
        figures |= {"goal_ms": [_GOAL_P50_MS, _GOAL_P95_MS], "is_met": all(are_met)}
        surroundings.report("wake_up", postgresql=surroundings.durability(relay.database), **figures)
    return 0 if all(are_met) else 1


def _make_known(relay: Relay, sink: CountingSink) -> None:
    feed(relay.port, [f"first@{_KNOWN}"], Load(sessions=1))
    sink.wait_for(1, seconds=30)
    relay.command(
        *("shaping", "set", "--provider", f"site:mx.{_KNOWN}"),
        *("messages_per_connection=1", "new_connections=10000/s"),
    )


def _delays_ms(relay: Relay, sink: CountingSink, recipients: list[str], *, every_s: float) -> list[float]:
    fed = feed(relay.port, recipients, Load(sessions=1, every_s=every_s))
    began = sink.wait_for_recipients(set(recipients), seconds=60)
    return [round((began[recipient] - fed.accepted[recipient]) * 1000, 1) for recipient in recipients]


if __name__ == "__main__":
    sys.exit(main())
