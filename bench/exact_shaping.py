"""Whether limits hold exactly, seen by a host that counts, while two workers send 10,000 mails as fast as they may.

    sudo .venv/bin/python bench/exact_shaping.py [--mails 10000] [--rate 50] [--kills 1]

Four source addresses send to two receiving hosts: eight paths, shared by two delivery workers. Every path may have so many
connections at once, so many messages in each of them, and so many messages in any second. The workers are killed (-9) so
many times on the way, and their paths change hands. For each path the hosts say

- how many connections were open at once, and how many messages the longest one had
- how many messages they saw in any second, wherever it begins

None of these may ever be above its limit. A window is measured from the first to the last of its MAIL commands as they
arrived; ``shortest_window_s`` is the shortest time in which one message more than allowed came.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.support import surroundings
from bench.support.counting_sink import CountingSink, Fact
from bench.support.feeder import Load, feed
from bench.support.names import Names
from bench.support.relay import Relay, free_port, running
from bench.support.surroundings import say

_HOSTS = {"one.example": "127.9.1.1", "two.example": "127.9.1.2"}
_SOURCES = ("127.9.2.1", "127.9.2.2", "127.9.2.3", "127.9.2.4")
_DELAYS_S = (0.0, 0.5)
_CONNECTIONS, _PER_CONNECTION = 4, 20
_WINDOW_S = 1.0


@dataclass
class Seen:
    """What a host saw of one source address."""

    connections: int = 0
    connections_at_once: int = 0
    messages_in_one: int = 0
    mails: list[float] = field(default_factory=list)

    def shortest(self, messages: int) -> float:
        """The shortest time within which so many messages came, in seconds."""
        return min(
            (last - first for first, last in zip(self.mails, self.mails[messages - 1 :], strict=False)), default=0.0
        )

    def most_within(self, seconds: float) -> int:
        """How many messages came in any stretch of less than so many seconds."""
        most = first = 0
        for last, moment in enumerate(self.mails):
            while moment - self.mails[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=10, help="messages a second on each path")
    parser.add_argument("--kills", type=int, default=1, help="how often all workers are killed on the way")
    options = parser.parse_args()
    surroundings.enter()
    port = free_port()
    recipients = [f"r{n}@{list(_HOSTS)[n % len(_HOSTS)]}" for n in range(options.mails)]
    with ExitStack() as stack:
        folder = stack.enter_context(surroundings.folder("exact-shaping"))
        sinks = [
            stack.enter_context(CountingSink(host, port, delay_s=delay_s))
            for host, delay_s in zip(_HOSTS.values(), _DELAYS_S, strict=True)
        ]
        names = stack.enter_context(Names(_HOSTS))
        relay = stack.enter_context(
            running(
                folder,
                outbound_port=port,
                dns=names.address,
                RELAY_WORKER_PROCESSES="2",
                RELAY_RETRY_SCHEDULE="5s",  # what a killed worker had past its dot is tried again
            )
        )
        _prepare(relay, sinks, rate=options.rate)
        began = time.monotonic()
        feed(relay.port, recipients)
        _kill_on_the_way(relay, sinks, options)
        _wait(relay)
        seconds = time.monotonic() - began
        workers = relay.rows("SELECT count(DISTINCT owner) FROM delivery_path WHERE owner <> ''")[0][0]
        seen = [one for sink in sinks for one in seen_by_source(sink.facts).values()]
        figures = {
            "paths": len(seen),
            "workers_with_paths": workers,
            "seconds": round(seconds, 1),
            "messages": sum(len(one.mails) for one in seen),
            "connections": sum(one.connections for one in seen),
            "most_connections_at_once": [max(one.connections_at_once for one in seen), _CONNECTIONS],
            "most_messages_in_a_connection": [max(one.messages_in_one for one in seen), _PER_CONNECTION],
            "most_messages_in_a_second": [max(one.most_within(_WINDOW_S) for one in seen), options.rate],
            "shortest_window_s": round(min(one.shortest(options.rate + 1) for one in seen), 4),
        }
        is_met = all(value[0] <= value[1] for name, value in figures.items() if name.startswith("most_"))  # type: ignore[index]
        surroundings.report(
            "exact_shaping",
            mails=options.mails,
            kills=options.kills,
            **figures,
            is_met=is_met,
            postgresql=surroundings.durability(relay.database),
        )
    return 0 if is_met else 1


def _prepare(relay: Relay, sinks: Sequence[CountingSink], *, rate: int) -> None:
    for source in _SOURCES:
        relay.command("source", "add", "--address", source)
    # A provider group is known once mail has gone there.
    feed(relay.port, [f"first@{domain}" for domain in _HOSTS], Load(sessions=1))
    for sink in sinks:
        sink.wait_for(1, seconds=60)
    for domain in _HOSTS:
        relay.command(
            *("shaping", "set", "--provider", f"site:mx.{domain}", f"connections={_CONNECTIONS}"),
            *(f"messages_per_connection={_PER_CONNECTION}", f"messages={rate}/s", "new_connections=10000/s"),
        )
    # Longer than connections are kept, so that none is left from before.
    time.sleep(15)
    for sink in sinks:
        sink.forget()


def _kill_on_the_way(relay: Relay, sinks: Sequence[CountingSink], options: argparse.Namespace) -> None:
    for number in range(options.kills):
        while sum(sink.done for sink in sinks) < options.mails * (number + 1) / (options.kills + 1):
            time.sleep(0.05)
        say(f"killing the workers after {sum(sink.done for sink in sinks)} mails")
        relay.stack.kill("worker")


def _wait(relay: Relay) -> None:
    deadline = time.monotonic() + 900
    while waiting := relay.rows("SELECT count(*) FROM delivery_queue_entry")[0][0]:
        if time.monotonic() > deadline:
            raise SystemExit(f"{waiting} mails were not delivered in time")
        time.sleep(0.5)


def seen_by_source(facts: Iterable[Fact]) -> dict[str, Seen]:
    """What a host's facts say of each source address, in the order in which the host saw them."""
    seen: dict[str, Seen] = defaultdict(Seen)
    peer: dict[int, str] = {}
    messages: dict[int, int] = {}
    for fact in facts:
        if fact.kind == "open":
            peer[fact.connection], messages[fact.connection] = fact.detail, 0
            one = seen[fact.detail]
            one.connections += 1
            one.connections_at_once = max(one.connections_at_once, sum(peer[n] == fact.detail for n in messages))
        elif fact.kind == "mail":
            one = seen[peer[fact.connection]]
            messages[fact.connection] += 1
            one.messages_in_one = max(one.messages_in_one, messages[fact.connection])
            one.mails.append(fact.at)
        elif fact.kind == "close":
            messages.pop(fact.connection)
    return seen


if __name__ == "__main__":
    sys.exit(main())
