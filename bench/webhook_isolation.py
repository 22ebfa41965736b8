"""Whether dead endpoints delay the others: one line of JSON.

    python bench/webhook_isolation.py [EVENTS]        (600 unless given)

Ten tenants with a good endpoint each get EVENTS events, spread evenly over time; the delay of an event is the time from the
commit that wrote it to its arrival. In every second of six rounds fifty further tenants have a dead endpoint each (half never
answer, half refuse the connection) with a thousand events waiting. The p95 of these rounds may be at most twice that of the
others; of each kind the middle round counts, as other work on the machine is none of the endpoints' doing.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

from webhook_field import Field, field, percentile

DEAD, GOOD, WAITING = 50, 10, 1000
ROUNDS = 3
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
        for number in range(DEAD):
            tenant = ground.make_tenant(f"dead-{number}", path=f"/hang/{number}", refuses=number % 2 == 1)
            ground.happen(tenant, ground.make_mail(tenant, WAITING))
        switch_dead(is_on=False)
        ground.start_caller()
        delays(ground, tenants, 50)  # warm
        quiet: list[list[float]] = []
        loaded: list[list[float]] = []
        for _ in range(ROUNDS):
            quiet.append(delays(ground, tenants, count // ROUNDS))
            switch_dead(is_on=True)
            loaded.append(delays(ground, tenants, count // ROUNDS))
            switch_dead(is_on=False)
    base, with_dead = (median(percentile(round_, 0.95) for round_ in rounds) * 1000 for rounds in (quiet, loaded))
    middle = [round(median(percentile(round_, 0.5) for round_ in rounds) * 1000, 1) for rounds in (quiet, loaded)]
    result = {
        "bench": "webhook_isolation",
        "dead_endpoints": DEAD,
        "p50_ms": middle,
        "p95_ms": [round(base, 1), round(with_dead, 1)],
        "ratio": round(with_dead / base, 2),
        "goal": 2,
        "is_met": with_dead <= 2 * base,
    }
    print(json.dumps(result))
    return 0 if result["is_met"] else 1


def switch_dead(*, is_on: bool) -> None:
    """As if they had just been added: nothing is known of them yet."""
    from delivery.models import Webhook

    Webhook.objects.filter(tenant__slug__startswith="dead-").update(
        state="active" if is_on else "disabled",
        owner="",
        leased_until=None,
        failures=0,
        failing_since=None,
        resting_until=None,
    )


if __name__ == "__main__":
    sys.exit(main())
