"""Mail to many small destinations at once: relayweb and Postfix with its default process limit, on the same work.

    sudo .venv/bin/python bench/long_tail.py [--domains 1000] [--mails 10]

Each of the domains has a mail host with an address of its own (127.1.x.y); behind all of them is one `smtp-sink -m 2000 -w 1`,
at which every mail takes a second. Postfix is told the hosts by transport_maps, relayweb asks the DNS. Both sign nothing less
than they do by default: relayweb signs with DKIM, Postfix does not. The clock runs from the first mail that is handed over to
the last one that the sink has taken.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from subprocess import TimeoutExpired

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import postfix, surroundings
from bench.support.feeder import feed
from bench.support.names import Names
from bench.support.relay import free_port, running, spent
from bench.support.sinks import smtp_sink
from bench.support.surroundings import say

_PATIENCE_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--domains", type=int, default=1_000)
    parser.add_argument("--mails", type=int, default=10, help="to each domain")
    parser.add_argument("--only", choices=["relayweb", "postfix"])
    options = parser.parse_args()
    surroundings.enter()
    hosts = {f"d{n}.example": f"127.1.{n // 250}.{n % 250 + 1}" for n in range(options.domains)}
    recipients = [f"r{n}@{domain}" for domain in hosts for n in range(options.mails)]
    random.Random(1).shuffle(recipients)
    figures: dict[str, object] = {"domains": len(hosts), "mails": len(recipients)}
    with surroundings.folder("long-tail") as folder:
        if options.only != "postfix":
            figures |= _relayweb(folder, hosts, recipients)
        if options.only != "relayweb" and postfix.is_there():
            figures |= _postfix(folder, hosts, recipients)
    if "relayweb_s" in figures and "postfix_s" in figures:
        figures["times_postfix"] = round(float(str(figures["postfix_s"])) / float(str(figures["relayweb_s"])), 2)
    surroundings.report("long_tail", **figures)


def _relayweb(folder: Path, hosts: dict[str, str], recipients: list[str]) -> dict[str, object]:
    port = free_port()
    with Names(hosts) as names, running(folder, outbound_port=port, dns=names.address) as relay:
        say("relayweb is up")
        before = relay.cpu_seconds()
        whole, handover = _measure(relay.port, port, recipients)
        used = spent(before, relay.cpu_seconds())
    return {"relayweb_s": whole, "relayweb_handover_s": handover, "relayweb_cpu_s": used}


def _postfix(folder: Path, hosts: dict[str, str], recipients: list[str]) -> dict[str, object]:
    port = free_port()
    transports = {domain: f"{address}:{port}" for domain, address in hosts.items()}
    with postfix.Postfix(folder / "postfix", free_port(), transports) as peer:
        say("postfix is up")
        whole, handover = _measure(peer.port, port, recipients)
    return {"postfix_s": whole, "postfix_handover_s": handover, "postfix_process_limit": 100, "postfix": peer.version}


def _measure(submission: int, sink_port: int, recipients: list[str]) -> tuple[float, float]:
    """Seconds until the last is delivered, and until the last is handed over."""
    with smtp_sink(sink_port, expects=len(recipients), delay_s=1) as sink:
        fed = feed(submission, recipients)
        say(f"handed over in {fed.ended - fed.began:.1f} s")
        try:
            sink.wait(_PATIENCE_S)
        except TimeoutExpired:
            raise SystemExit("not all mail was delivered in time") from None
        ended = time.monotonic()
    say(f"delivered after {ended - fed.began:.1f} s")
    return round(ended - fed.began, 1), round(fed.ended - fed.began, 1)


if __name__ == "__main__":
    main()
