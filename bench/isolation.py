"""Whether a tenant whose mail goes nowhere holds up another's: 100,000 recipients at a tar pit and in a storm of 421.

    sudo .venv/bin/python bench/isolation.py [--recipients 100000] [--domains 100] [--mails 200] [--every 0.2]

Tenant A's recipients are spread over many domains with a mail host each. Half of these hosts are a tar pit, which lets a
connection wait two minutes for its greeting; the others greet with 421 and close. Tenant B sends single mails, each to another
domain that relayweb has never heard of, first while nothing else is there and then beside A's mail: during its acceptance, and
once all of it is queued. The clock runs from B's `250` to the connection at the host. The p95 beside A's
queue may be at most twice the idle one plus a second; that during the acceptance is told beside it.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import surroundings
from bench.support.counting_sink import CountingSink
from bench.support.feeder import Load, feed
from bench.support.names import Names
from bench.support.relay import Relay, add_tenant, free_port, running
from bench.support.sinks import smtp_sink
from bench.support.surroundings import percentile, say

_GOOD, _PIT, _STORM = "127.9.0.1", "127.9.0.2", "127.9.0.3"
_OTHER = "other.example"
_OTHERS_ADDRESS = "127.0.0.2"
_PERIODS = ("idle", "handing_over", "queued")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipients", type=int, default=100_000, help="of tenant A")
    parser.add_argument("--domains", type=int, default=100, help="of tenant A's recipients")
    parser.add_argument("--mails", type=int, default=200, help="of tenant B in each period")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between two of them")
    options = parser.parse_args()
    surroundings.enter()
    port = free_port()
    bad = {f"bad{n}.example": (_PIT, _STORM)[n % 2] for n in range(options.domains)}
    good = {period: [f"r@{period.replace('_', '-')}{n}.example" for n in range(options.mails)] for period in _PERIODS}
    hosts = {recipient.partition("@")[2]: _GOOD for recipients in good.values() for recipient in recipients}
    backlog = [f"r{n}@bad{n % options.domains}.example" for n in range(options.recipients)]
    with (
        surroundings.folder("isolation") as folder,
        CountingSink(_GOOD, port) as sink,
        smtp_sink(port, host=_PIT, options=["-W", "CONNECT:120"], sessions=10_000),
        smtp_sink(port, host=_STORM, options=["-Q", "CONNECT"], sessions=10_000),
        Names(bad | hosts) as names,
        running(folder, outbound_port=port, dns=names.address) as relay,
    ):
        add_tenant(relay, "other", _OTHER, network=f"{_OTHERS_ADDRESS}/32")
        time.sleep(2)
        delays = {"idle": _delays_ms(relay, sink, good["idle"], every_s=options.every)}
        say("idle measured")
        handing_over = threading.Thread(target=feed, args=(relay.port, backlog, Load(sessions=4, recipients_each=100)))
        handing_over.start()
        delays["handing_over"] = _delays_ms(relay, sink, good["handing_over"], every_s=options.every)
        handing_over.join()
        queued = _queued(relay)
        say(f"{queued} recipients are queued")
        delays["queued"] = _delays_ms(relay, sink, good["queued"], every_s=options.every)
        attempts = relay.rows("SELECT reply_code, count(*) FROM delivery_attempt GROUP BY 1 ORDER BY 1")
        say(f"attempts by reply: {attempts}")
        p95 = {period: percentile(delays[period], 0.95) for period in _PERIODS}
        most = 2 * p95["idle"] + 1_000
        is_met = p95["queued"] <= most
        surroundings.report(
            "isolation",
            postgresql=surroundings.durability(relay.database),
            recipients=options.recipients,
            domains=options.domains,
            mails=options.mails,
            queued=queued,
            attempts={str(code): count for code, count in attempts},
            p50_ms={period: percentile(delays[period], 0.5) for period in _PERIODS},
            p95_ms=p95,
            goal_ms=round(most, 1),
            is_met=is_met,
        )
    return 0 if is_met else 1


def _delays_ms(relay: Relay, sink: CountingSink, recipients: list[str], *, every_s: float) -> list[float]:
    load = Load(sessions=1, every_s=every_s, sender=f"news@{_OTHER}", source=_OTHERS_ADDRESS)
    fed = feed(relay.port, recipients, load)
    began = sink.wait_for_recipients(set(recipients), seconds=120)
    return [round((began[recipient] - fed.accepted[recipient]) * 1000, 1) for recipient in recipients]


def _queued(relay: Relay) -> int:
    return relay.rows("SELECT count(*) FROM delivery_queue_entry")[0][0]


if __name__ == "__main__":
    sys.exit(main())
