"""How many events a second one caller tells a receiver on this machine: one line of JSON.

    python bench/webhook_throughput.py [EVENTS]        (20000 unless given)

The events of one tenant wait when the caller starts; the time counts from its start to the last event's arrival. Once with a
call for each event, once with a hundred to a call. `noted_us` is what noting an event for a webhook adds to writing it.
"""

from __future__ import annotations

import json
import sys
import time

from webhook_field import Field, field

GOAL = 1000


def run(ground: Field, name: str, count: int, *, most_in_a_call: int) -> dict[str, float]:
    tenant = ground.make_tenant(name, path=f"/{name}", most_in_a_call=most_in_a_call)
    mail = ground.make_mail(tenant, count)
    events: dict[str, float] = {}
    began = time.monotonic()
    for start in range(0, count, 200):
        events |= ground.happen(tenant, mail[start : start + 200])
    written = time.monotonic() - began
    ground.start_caller()
    began_at = time.time()
    came = ground.wait_for(events, seconds=300)
    ground.stop_caller()
    seconds = max(came[key] for key in events) - began_at
    return {"events_per_second": round(count / seconds), "written_us": round(written / count * 1e6, 1)}


def written_without(ground: Field, count: int) -> float:
    """What writing the same events costs while nobody wants them."""
    from delivery.models import Webhook

    tenant = ground.make_tenant("nobody", path="/nobody")
    Webhook.objects.update(state="disabled")
    mail = ground.make_mail(tenant, count)
    began = time.monotonic()
    for start in range(0, count, 200):
        ground.happen(tenant, mail[start : start + 200])
    seconds = time.monotonic() - began
    return seconds / count * 1e6


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with field() as ground:
        quiet_us = written_without(ground, count)
        single = run(ground, "single", count, most_in_a_call=1)
        batched = run(ground, "batched", count, most_in_a_call=100)
    result = {
        "bench": "webhook_throughput",
        "events": count,
        "events_per_second": single["events_per_second"],
        "events_per_second_batched": batched["events_per_second"],
        "noted_us": round(single["written_us"] - quiet_us, 1),
        "goal": GOAL,
        "is_met": single["events_per_second"] >= GOAL,
    }
    print(json.dumps(result))
    return 0 if result["is_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
