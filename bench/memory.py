"""What relayweb keeps in memory: idle, with many silent TLS sessions, and with one large mail to many recipients.

    sudo .venv/bin/python bench/memory.py [--sessions 2000] [--megabytes 25] [--recipients 100]

Memory is the proportional set size (PSS) of all processes together: what processes share counts once. It is read from
/proc/<pid>/smaps_rollup, ten seconds after the last thing happened; for the large mail every 50 ms until it is delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import certificate, surroundings
from bench.support.feeder import Load, feed
from bench.support.names import Names
from bench.support.relay import Relay, free_port, running
from bench.support.sinks import smtp_sink
from bench.support.surroundings import say

_REST_S = 10
_PATIENCE_S = 300
_IDLE_GOAL_MB, _SESSION_GOAL_KB, _LARGE_GOAL_MB = 800, 60, 200
HOSTS = {f"d{n}.example": f"127.1.0.{n + 1}" for n in range(20)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sessions", type=int, default=2_000)
    parser.add_argument("--megabytes", type=int, default=25)
    parser.add_argument("--recipients", type=int, default=100)
    options = parser.parse_args()
    surroundings.enter()
    sink_port = free_port()
    with surroundings.folder("memory") as folder, Names(HOSTS) as names:
        certificate_file, key = certificate.write(folder)
        settings = {
            "RELAY_TLS_CERT": str(certificate_file),
            "RELAY_TLS_KEY": str(key),
            "RELAY_GATE_CONNECTIONS": str(options.sessions + 100),
            "RELAY_GATE_CONNECTIONS_PER_ADDRESS": str(options.sessions + 100),
        }
        with running(folder, outbound_port=sink_port, dns=names.address, **settings) as relay:
            say("relayweb is up")
            figures = _idle(relay)
            figures |= _silent_sessions(relay, options.sessions)
            figures |= _large_mail(relay, sink_port, options.megabytes, options.recipients)
    met = (
        figures["idle_mb"] <= _IDLE_GOAL_MB
        and figures["session_kb"] <= _SESSION_GOAL_KB
        and figures["large_above_idle_mb"] <= _LARGE_GOAL_MB
    )
    goals = {"idle_mb": _IDLE_GOAL_MB, "session_kb": _SESSION_GOAL_KB, "large_above_idle_mb": _LARGE_GOAL_MB}
    surroundings.report("memory", **figures, goals=goals, met=met)
    return 0 if met else 1


def _idle(relay: Relay) -> dict[str, Any]:
    time.sleep(_REST_S)
    parts = _parts(relay)
    say(f"idle: {sum(parts.values()) / 1024:.0f} MB")
    return {
        "idle_mb": round(sum(parts.values()) / 1024),
        "idle_parts_mb": {part: round(kb / 1024) for part, kb in sorted(parts.items())},
    }


def _silent_sessions(relay: Relay, sessions: int) -> dict[str, Any]:
    before = _parts(relay)["gate"]
    during = asyncio.run(_hold(relay, sessions))
    say(f"{sessions} sessions: {(during - before) / sessions:.1f} KB each")
    return {"sessions": sessions, "session_kb": round((during - before) / sessions, 1)}


async def _hold(relay: Relay, sessions: int) -> int:
    """Memory of the gates, in KB, while so many sessions are open and say nothing after their EHLO."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    places = asyncio.Semaphore(20)
    writers = []

    async def open_one() -> None:
        async with places:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", relay.stack.ports["submissions"], ssl=context, ssl_handshake_timeout=120
            )
            writers.append(writer)
            assert (await reader.readline()).startswith(b"220")
            writer.write(b"EHLO bench.example\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(sessions):
                group.create_task(open_one())
        await asyncio.sleep(_REST_S)
        return _parts(relay)["gate"]
    finally:
        for writer in writers:
            writer.close()


def _large_mail(relay: Relay, sink_port: int, megabytes: int, recipients: int) -> dict[str, Any]:
    addresses = [f"r{n}@d{n % len(HOSTS)}.example" for n in range(recipients)]
    time.sleep(_REST_S)
    highest = _Highest(relay)
    before = highest.now()
    with highest, smtp_sink(sink_port, expects=0):
        feed(relay.port, addresses, Load(sessions=1, size=megabytes * 2**20, recipients_each=recipients))
        deadline = time.monotonic() + _PATIENCE_S
        while relay.rows("SELECT 1 FROM delivery_queue_entry LIMIT 1"):
            if time.monotonic() > deadline:
                raise SystemExit("the large mail was not delivered in time")
            time.sleep(0.5)
    say(f"a mail of {megabytes} MB to {recipients}: {(highest.kb - before) / 1024:.0f} MB above")
    return {
        "large_mail_mb": megabytes,
        "large_mail_recipients": recipients,
        "large_above_idle_mb": round((highest.kb - before) / 1024),
    }


class _Highest:
    """Watches gates and workers on a thread of its own."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.kb = 0

    def now(self) -> int:
        parts = _parts(self._relay, "gate", "worker")
        return parts["gate"] + parts["worker"]

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.kb = max(self.kb, self.now())


def _parts(relay: Relay, *only: str) -> dict[str, int]:
    """PSS in KB of each part with all its processes."""
    found: dict[str, int] = {}
    for pid_file in (relay.stack.var / "run").glob("*.pid"):
        part = pid_file.stem.partition("-")[0]
        if not only or part in only:
            with suppress(OSError, ValueError, IndexError):
                found[part] = found.get(part, 0) + _pss_kb(int(pid_file.read_text().split()[0]))
    if not only and relay.stack.process is not None:
        found["server"] = _own_pss_kb(relay.stack.process.pid)
    return found


def _pss_kb(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _own_pss_kb(pid) + sum(_pss_kb(int(child)) for child in children)


def _own_pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
