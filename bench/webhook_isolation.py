"""Whether dead endpoints delay the others: one line of JSON.

    python bench/webhook_isolation.py [EVENTS]        (600 unless given)

Ten tenants with a good endpoint each get EVENTS events, spread evenly over time; the delay of an event is the time from the
commit that wrote it to its arrival. Then the same while fifty further tenants have a dead endpoint each (half never answer,
half refuse the connection) and a thousand events waiting. The p95 may be at most twice that of before.
"""

from __future__ import annotations

import json
import sys
import time

from webhook_field import Field, field, percentile

DEAD, GOOD, WAITING = 50, 10, 1000
PAUSE_S = 0.02


def delays(ground: Field, tenants: list[tuple[object, list[tuple[object, object]]]], count: int) -> list[float]:
    committed: dict[str, float] = {}
    for number in range(count):
        tenant, mail = tenants[number % len(tenants)]
        committed |= ground.happen(tenant, [mail.pop()])  # type: ignore[arg-type, list-item]
        time.sleep(PAUSE_S)
    came = ground.wait_for(committed, seconds=120)
    return [came[key] - at for key, at in committed.items()]


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with field() as ground:
        tenants = []
        for number in range(GOOD):
            tenant = ground.make_tenant(f"good-{number}", path=f"/good/{number}")
            tenants.append((tenant, ground.make_mail(tenant, count)))
        ground.start_caller()
        delays(ground, tenants, 50)  # warm
        before = delays(ground, tenants, count)
        for number in range(DEAD):
            tenant = ground.make_tenant(f"dead-{number}", path=f"/hang/{number}")
            if number % 2:
                from delivery.models import Webhook

                Webhook.objects.of(tenant).update(url="http://127.0.0.1:9/refuses")
            ground.happen(tenant, ground.make_mail(tenant, WAITING))
        after = delays(ground, tenants, count)
    base, loaded = percentile(before, 0.95) * 1000, percentile(after, 0.95) * 1000
    result = {
        "bench": "webhook_isolation",
        "dead_endpoints": DEAD,
        "p50_ms": [round(percentile(before, 0.5) * 1000, 1), round(percentile(after, 0.5) * 1000, 1)],
        "p95_ms": [round(base, 1), round(loaded, 1)],
        "ratio": round(loaded / base, 2),
        "goal": 2,
        "is_met": loaded <= 2 * base,
    }
    print(json.dumps(result))
    return 0 if result["is_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
