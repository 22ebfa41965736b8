"""What beat asks for, and how often. Each task takes an advisory lock, so that a second beat does no harm.

Nothing about mail depends on this: engines sweep and look by themselves. It is for what keeps the house in order.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

HOUR = 3600.0
MINUTE = 60.0

SCHEDULE: dict[str, dict[str, Any]] = {
    "domains are checked": {
        "task": "delivery.check_domains",
        "schedule": min(MINUTE, float(settings.DOMAIN_RECHECK_SECONDS)),
    },
    "what came back is read": {"task": "delivery.reports.read", "schedule": 15.0, "options": {"expires": 15}},
    "lists are taken up": {"task": "delivery.import_suppressions", "schedule": 15.0, "options": {"expires": 15}},
    "reports we owe are written": {"task": "delivery.reports.write", "schedule": 15.0, "options": {"expires": 15}},
    "strikes are judged": {"task": "delivery.judge_strikes", "schedule": MINUTE},
    "old suppressions are forgotten": {"task": "delivery.forget_suppressions", "schedule": HOUR},
    "events are counted": {"task": "delivery.count_events", "schedule": 10.0, "options": {"expires": 10}},
    "sources are checked": {"task": "delivery.check_sources", "schedule": 5 * MINUTE, "options": {"expires": 300}},
    "domains are looked for in blocklists": {
        "task": "delivery.check_domain_lists",
        "schedule": 10 * MINUTE,
        "options": {"expires": 600},
    },
    "sources are scored": {"task": "delivery.score_sources", "schedule": 10 * MINUTE, "options": {"expires": 600}},
    "warm-ups are judged": {"task": "delivery.advance_warm_ups", "schedule": 5 * MINUTE, "options": {"expires": 300}},
    "old hours of paths are forgotten": {"task": "delivery.forget_path_hours", "schedule": HOUR},
    "jobs are worked on": {"task": "delivery.work_on_jobs", "schedule": 10.0, "options": {"expires": 10}},
    "old jobs are forgotten": {"task": "delivery.forget_jobs", "schedule": HOUR},
    "old statistics are forgotten": {"task": "delivery.forget_statistics", "schedule": HOUR},
    "idempotency keys are forgotten": {"task": "delivery.forget_idempotency_keys", "schedule": 10 * MINUTE},
    "callers of webhooks look": {"task": "delivery.webhooks.look", "schedule": 30.0, "options": {"expires": 30}},
    "disabled webhooks are noticed": {"task": "delivery.webhooks.raise_notices", "schedule": MINUTE},
    "old calls of webhooks are forgotten": {"task": "delivery.webhooks.forget", "schedule": HOUR},
    "tenants are watched": {"task": "delivery.watch_tenants", "schedule": MINUTE, "options": {"expires": 60}},
    "brakes are judged": {"task": "delivery.look_at_brakes", "schedule": 30.0, "options": {"expires": 30}},
    "rates are watched": {"task": "delivery.watch_rates", "schedule": 15 * MINUTE, "options": {"expires": 900}},
    "old content is dropped": {"task": "delivery.drop_old_content", "schedule": HOUR, "options": {"expires": 3600}},
    "delivered content is dropped": {
        "task": "delivery.drop_delivered_content",
        "schedule": 15.0,
        "options": {"expires": 15},
    },
    "closed tenants are erased": {"task": "delivery.erase_tenants", "schedule": HOUR, "options": {"expires": 3600}},
    "notices are mailed": {"task": "relayweb.mail_notices", "schedule": MINUTE, "options": {"expires": 60}},
    "alerts are watched": {"task": "relayweb.watch_alerts", "schedule": 30.0, "options": {"expires": 30}},
    "old alerts are forgotten": {"task": "relayweb.forget_alerts", "schedule": HOUR, "options": {"expires": 3600}},
    "people are tidied up after": {"task": "relayweb.forget_people", "schedule": HOUR, "options": {"expires": 3600}},
    "partitions are made ahead": {"task": "delivery.make_partitions", "schedule": HOUR},
}
