"""What a tenant's backlog costs another tenant in the same provider group, where both share what the receiver allows.

    sudo .venv/bin/python bench/fairness.py [--backlog 50000] [--mails 100] [--pace 20] [--by rate|connections]

The group takes ``pace`` mails a second: because the limit is a rate, or because each mail takes a second there and the limit
is that many connections. First tenant B's mails go alone, at half the pace; then tenant A has its backlog queued, and B's
mails come on top at the full pace. Fair means that half of the pace is B's, as if it were alone with it: B may take 1.5 times
as long. The clock runs from the first of B's mails that is handed over to the last one that the host has taken.
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
from bench.support.relay import Relay, add_tenant, free_port, running
from bench.support.surroundings import say

_HOST = "127.9.0.1"
_SHARED = "shared.example"
_OTHER = "other.example"
_OTHERS_ADDRESS = "127.0.0.2"
_GOAL = 1.5
_PATIENCE_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backlog", type=int, default=50_000, help="recipients of tenant A")
    parser.add_argument("--mails", type=int, default=100, help="of tenant B")
    parser.add_argument("--pace", type=int, default=20, help="mails a second")
    parser.add_argument("--by", choices=["rate", "connections"], help="only this kind of limit")
    options = parser.parse_args()
    surroundings.enter()
    figures: dict[str, object] = {"backlog": options.backlog, "mails": options.mails, "pace": options.pace}
    ratios = []
    for kind in [options.by] if options.by else ["rate", "connections"]:
        with surroundings.folder("fairness") as folder:
            found, database = _measure(folder, kind, options)
        ratios.append(float(found["ratio"]))
        figures[kind] = found
    is_met = max(ratios) <= _GOAL
    surroundings.report("fairness", **figures, goal=_GOAL, is_met=is_met, postgresql=database)
    return 0 if is_met else 1


def _measure(folder: Path, kind: str, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, str]]:
    port = free_port()
    with (
        CountingSink(_HOST, port, delay_s=1.0 if kind == "connections" else 0.0) as sink,
        Names({_SHARED: _HOST}) as names,
        running(folder, outbound_port=port, dns=names.address) as relay,
    ):
        add_tenant(relay, "other", _OTHER, network=f"{_OTHERS_ADDRESS}/32")
        feed(relay.port, [f"first@{_SHARED}"], Load(sessions=1))
        sink.wait_for(1, seconds=30)
        _set_pace(relay, kind, options.pace // 2)
        alone = _others_mail(relay, sink, "alone", options.mails)
        say(f"{kind}: alone {alone:.1f} s")
        _set_pace(relay, kind, options.pace)
        feed(relay.port, [f"a{n}@{_SHARED}" for n in range(options.backlog)], Load(recipients_each=100))
        _until_at_pace(sink, options.pace)
        beside = _others_mail(relay, sink, "beside", options.mails)
        left = _waiting(relay)
        say(f"{kind}: beside the backlog {beside:.1f} s, {left} still waiting")
        assert left > 0, "the backlog was gone before the end"
        found = {"alone_s": round(alone, 2), "beside_s": round(beside, 2), "ratio": round(beside / alone, 2)}
        return {**found, "backlog_left": left}, surroundings.durability(relay.database)


def _set_pace(relay: Relay, kind: str, pace: int) -> None:
    limits = {
        "rate": [f"messages={pace}/s", "connections=10"],
        "connections": [f"connections={pace}", "messages=10000/s"],
    }
    relay.command(
        *("shaping", "set", "--provider", f"site:mx.{_SHARED}", *limits[kind]),
        *("messages_per_connection=1000", "new_connections=10000/s"),
    )
    time.sleep(2)


def _until_at_pace(sink: CountingSink, pace: int) -> None:
    taken = sink.done
    sink.wait_for(taken + 3 * pace, seconds=60)


def _others_mail(relay: Relay, sink: CountingSink, name: str, mails: int) -> float:
    """Seconds from handing over to the last that was taken."""
    recipients = [f"{name}{n}@{_SHARED}" for n in range(mails)]
    fed = feed(relay.port, recipients, Load(sender=f"news@{_OTHER}", source=_OTHERS_ADDRESS))
    return max(sink.wait_for_delivered(set(recipients), seconds=_PATIENCE_S).values()) - fed.began


def _waiting(relay: Relay) -> int:
    return relay.rows("SELECT count(*) FROM delivery_queue_entry")[0][0]


if __name__ == "__main__":
    sys.exit(main())
