"""Mail handed over by the HTTP API in batches of 500, while it is not delivered.

    sudo .venv/bin/python bench/api_batches.py [--batches 20] [--clients 2]

- text        1 KB of text a mail
- multipart   1 KB of text and 2 KB of HTML a mail

Each client is a process with a connection that stays open. Every mail is to one recipient of one of 20 domains; the source
address is paused. As many web processes as there are cores. Every mail must be accepted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import surroundings
from bench.support.feeder import SENDER
from bench.support.names import Names
from bench.support.relay import TENANT, free_port, running, spent
from bench.support.surroundings import say

_BATCH = 500
_GOAL = {"text": 1_000, "multipart": 400}
HOSTS = {f"d{n}.example": f"127.1.0.{n + 1}" for n in range(20)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", type=int, default=20, help="of each kind, in all")
    parser.add_argument("--clients", type=int, default=2)
    options = parser.parse_args()
    surroundings.enter()
    figures: dict[str, Any] = {"batch": _BATCH, "clients": options.clients}
    met = True
    settings = {"RELAY_WEB_PROCESSES": str(len(os.sched_getaffinity(0)))}
    with (
        surroundings.folder("api") as folder,
        Names(HOSTS) as names,
        running(folder, outbound_port=free_port(), dns=names.address, **settings) as relay,
    ):
        for source in relay.command("source", "list"):
            relay.command("source", "pause", source["id"])
        key = relay.command("credential", "issue", "--tenant", TENANT, "--kind", "api", "--name", "bench")["secret"]
        port = relay.stack.ports["http"]
        say("relayweb is up")
        for kind, goal in _GOAL.items():
            before = relay.cpu_seconds()
            pace, slowest = _per_second(port, key, kind, options.clients, max(1, options.batches // options.clients))
            figures[kind] = {
                "mails_per_s": round(pace),
                "slowest_batch_s": round(slowest, 2),
                "goal": goal,
                "cpu_s": spent(before, relay.cpu_seconds()),
            }
            met = met and pace >= goal
            say(f"{kind}: {pace:.0f} mails a second")
    surroundings.report("api_batches", **figures, met=met)
    return 0 if met else 1


def _per_second(port: int, key: str, kind: str, clients: int, batches: int) -> tuple[float, float]:
    """Mails a second, and the seconds of the slowest batch."""
    with multiprocessing.get_context("spawn").Pool(clients) as pool:
        pool.starmap(_send, [(port, key, kind, 1)] * clients, chunksize=1)  # started, connected once, caches filled
        began = time.monotonic()
        waits = pool.starmap(_send, [(port, key, kind, batches)] * clients, chunksize=1)
        return clients * batches * _BATCH / (time.monotonic() - began), max(map(max, waits))


def _send(port: int, key: str, kind: str, batches: int) -> list[float]:
    content = {"text": "x" * 1024} if kind == "text" else {"text": "x" * 1024, "html": f"<p>{'x' * 2048}</p>"}
    messages = [
        {"from": SENDER, "to": [f"r{n}@d{n % len(HOSTS)}.example"], "subject": "A benchmark", **content}
        for n in range(_BATCH)
    ]
    body = json.dumps({"messages": messages})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    waits = []
    for _ in range(batches):
        began = time.monotonic()
        connection.request("POST", "/api/v1/messages/batch", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status in (202, 207), f"{answer.status}: {said[:300]!r}"
        results = json.loads(said)["results"]
        refused = [result for result in results if result["status"] != "accepted"]
        assert len(results) == _BATCH and not refused, f"refused: {refused[:1]}"
        waits.append(time.monotonic() - began)
    connection.close()
    return waits


if __name__ == "__main__":
    sys.exit(main())
