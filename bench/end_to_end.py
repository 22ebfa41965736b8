"""Accepting and delivering at once until the queue is empty: relayweb, and Postfix with OpenDKIM or without.

    sudo .venv/bin/python bench/end_to_end.py [--unsigned] [--mails 20000] [--size 4096] [--rounds 1]

smtp-source hands the mail over in 20 sessions that stay open, one for each of 20 recipient domains; each has a mail host with an
address of its own, all of them one smtp-sink. Both sign with RSA-2048, relaxed/relaxed, once a mail, or neither does. relayweb
looks the hosts up in the DNS, Postfix has them in its transport_maps. The clock runs from the first mail that is handed over to
the last one that the sink has taken. `signing_limit` is what the cores could sign if they did nothing else (`openssl speed`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import TimeoutExpired

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import opendkim, postfix, surroundings
from bench.support.names import Names
from bench.support.relay import DOMAIN, TENANT, free_port, running, spent
from bench.support.sinks import smtp_sink
from bench.support.smtp_source import SESSIONS, hand_over, write_body
from bench.support.surroundings import say

_PATIENCE_S = 900
_GOAL = {"signed": 3.0, "unsigned": 2.0}
_MUST = {"signed": 2.0, "unsigned": 1.5}
HOSTS = {f"d{n}.example": f"127.1.0.{n + 1}" for n in range(SESSIONS)}
RECIPIENTS = [f"someone@{domain}" for domain in HOSTS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4_096, help="octets of a mail")
    parser.add_argument("--rounds", type=int, default=1, help="both in turn, so often; the best of each counts")
    parser.add_argument("--unsigned", action="store_true")
    parser.add_argument("--only", choices=["relayweb", "postfix"])
    options = parser.parse_args()
    surroundings.enter()
    kind = "unsigned" if options.unsigned else "signed"
    why_not = postfix.why_not() or (opendkim.why_not() if not options.unsigned else "")
    each = options.mails // len(RECIPIENTS)
    found: dict[str, list[float]] = {"relayweb": [], "postfix": []}
    figures: dict[str, object] = {"mails": each * len(RECIPIENTS), "size": options.size, "signed": not options.unsigned}
    with surroundings.folder("end-to-end") as folder:
        body = write_body(folder / "body", options.size)
        for number in range(options.rounds):
            if options.only != "postfix":
                pace, cost = _relayweb(folder / f"relay-{number}", body, each, signed=not options.unsigned)
                found["relayweb"].append(pace)
                figures["relayweb_cost"] = cost
            if options.only != "relayweb" and not why_not:
                found["postfix"].append(_postfix(folder / f"postfix-{number}", body, each, signed=not options.unsigned))
    if why_not:
        figures["no_peer"] = why_not
    figures |= {f"{name}_per_s": round(max(paces)) for name, paces in found.items() if paces}
    if found["relayweb"] and not options.unsigned:
        limit = signing_limit()
        figures |= {"signing_limit_per_s": round(limit), "share_of_limit": round(max(found["relayweb"]) / limit, 2)}
    if found["relayweb"] and found["postfix"]:
        times = max(found["relayweb"]) / max(found["postfix"])
        figures |= {"times_postfix": round(times, 2), "must": _MUST[kind], "goal": _GOAL[kind]}
        figures["met"] = times >= _MUST[kind]
    surroundings.report("end_to_end", **figures)
    return 0 if figures.get("met", True) else 1


def _relayweb(folder: Path, body: Path, each: int, *, signed: bool) -> tuple[float, dict[str, object]]:
    """Mails a second, and what each mail cost."""
    folder.mkdir()
    folder.chmod(0o711)
    port = free_port()
    with Names(HOSTS) as names, running(folder, outbound_port=port, dns=names.address) as relay:
        if not signed:
            relay.command("domain", "update", "--tenant", TENANT, "--name", DOMAIN, "--signing", "off")
        say("relayweb is up")
        mails = each * len(RECIPIENTS)
        cpu, commands = relay.cpu_seconds(), relay.broker_commands()
        wal, stored = relay.wal_octets(), relay.stored_octets()
        pace = _measure("relayweb", relay.port, port, body, each)
        used = spent(cpu, relay.cpu_seconds())
        return pace, {
            "cpu_ms_per_mail": {part: round(seconds * 1000 / mails, 2) for part, seconds in used.items()},
            "wal_octets_per_mail": round((relay.wal_octets() - wal) / mails),
            "stored_octets_per_mail": round((relay.stored_octets() - stored) / mails),
            "broker_commands_per_mail": round((relay.broker_commands() - commands) / mails, 2),
        }


def _postfix(folder: Path, body: Path, each: int, *, signed: bool) -> float:
    folder.mkdir()
    folder.chmod(0o711)
    port = free_port()
    transports = {domain: f"{address}:{port}" for domain, address in HOSTS.items()}
    with ExitStack() as parts:
        settings = parts.enter_context(opendkim.running(folder / "opendkim", port=free_port())) if signed else {}
        peer = parts.enter_context(
            postfix.running(folder / "postfix", port=free_port(), transports=transports, **settings)
        )
        say("postfix is up")
        return _measure("postfix", peer.port, port, body, each)


def _measure(name: str, submission: int, sink_port: int, body: Path, each: int) -> float:
    """Mails a second."""
    with smtp_sink(sink_port, expects=each * len(RECIPIENTS)) as sink:
        began = time.monotonic()
        hand_over(submission, RECIPIENTS, mails=each, body=body)
        accepted = time.monotonic() - began
        try:
            sink.wait(_PATIENCE_S)
        except TimeoutExpired:
            raise SystemExit(f"{name}: not all mail was delivered in time") from None
        took = time.monotonic() - began
    say(f"{name}: handed over in {accepted:.1f} s, delivered after {took:.1f} s")
    return each * len(RECIPIENTS) / took


def signing_limit() -> float:
    """RSA-2048 signatures a second that all cores together can make."""
    cores = len(os.sched_getaffinity(0))
    command = ["openssl", "speed", "-seconds", "2", "-multi", str(cores), "rsa2048"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("rsa 2048"))
    return float(line.split()[-2])


if __name__ == "__main__":
    sys.exit(main())
