"""The figures for Prometheus: what waits is read from the database when asked, what happened is counted by each process.

Processes count into files of PROMETHEUS_MULTIPROC_DIR (the supervisor sets it), which are added up here; without that
folder only this process's own counts are shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from django.db import connection
from django.db.models import Count
from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from delivery import partitions
from delivery.alerts import episodes
from delivery.models import Appeal, Brake
from delivery.queue.figures import PathFigures, queue_stats
from delivery.reputation import scores
from delivery.source_checks import checks
from delivery.warmup import plans

__all__ = ["CONTENT_TYPE", "exposition"]


def _of_paths(paths: Sequence[PathFigures]) -> Iterator[Metric]:
    labels = ["provider", "source"]
    pace = GaugeMetricFamily("relayweb_path_pace_ratio", "Share of full speed a path has learnt to keep", labels=labels)
    in_hand = GaugeMetricFamily("relayweb_path_in_hand_recipients", "Recipients being attempted", labels=labels)
    rests = GaugeMetricFamily(
        "relayweb_path_suspended", "1 while nothing begins on the path", labels=[*labels, "reason"]
    )
    # Only those named in the data file, or slowed, or suspended: a site is one of any number.
    for path in paths:
        place = [path.provider, path.source]
        if path.provider.startswith("site:") and path.pace >= 1 and path.suspended_until is None:
            continue
        pace.add_metric(place, path.pace)
        in_hand.add_metric(place, path.in_hand)
        if path.suspended_until is not None:
            rests.add_metric([*place, path.suspended_reason], 1)
    yield pace
    yield in_hand
    yield rests


def _of_warm_ups() -> Iterator[Metric]:
    labels = ["provider", "source"]
    stage = GaugeMetricFamily(
        "relayweb_warmup_stage", "Stage of a running warm-up, from 1", labels=[*labels, "schedule"]
    )
    limit = GaugeMetricFamily("relayweb_warmup_limit_messages", "What the stage allows", labels=[*labels, "per"])
    used = GaugeMetricFamily(
        "relayweb_warmup_accepted_messages", "Accepted at this stage, within a day at most", labels=labels
    )
    # Sites are any number: `relay warmup list` has them.
    for line in plans.list_warm_ups(only_named=True):
        if line.limit is None:
            continue
        place = [line.warm_up.group.key, str(line.warm_up.source)]
        stage.add_metric([*place, line.schedule.key], line.warm_up.stage + 1)
        limit.add_metric([*place, line.schedule.per], line.limit)
        used.add_metric(place, line.figures.accepted)
    yield stage
    yield limit
    yield used


def _of_source_checks() -> Iterator[Metric]:
    trouble = GaugeMetricFamily(
        "relayweb_source_trouble", "1 where a check of the address found something bad", labels=["source", "check"]
    )
    failed = GaugeMetricFamily(
        "relayweb_source_check_failed", "1 where a check of the address could not be made", labels=["source", "check"]
    )
    for check in checks.latest_of_all():
        for result in check.results:
            if result["check"] in checks.OF_THE_INSTALLATION:
                continue
            place = [str(check.source), result["check"]]
            trouble.add_metric(place, float(result["verdict"] == "bad"))
            failed.add_metric(place, float(result["verdict"] == "failed"))
    yield trouble
    yield failed


def _of_reputation() -> Iterator[Metric]:
    score = GaugeMetricFamily(
        "relayweb_reputation_score",
        "How an address stands with a provider group, 0 to 100",
        labels=["provider", "source"],
    )
    for row in scores.latest_of_named():
        score.add_metric([row.group.key, str(row.source)], row.score)
    yield score


def _of_alerts() -> Iterator[Metric]:
    alerts = GaugeMetricFamily("relayweb_alerts_open", "Alerts that are open", labels=["kind", "severity", "state"])
    for one in episodes.open_by_kind():
        for state in ("firing", "acknowledged", "muted"):
            alerts.add_metric([one.kind, one.severity, state], getattr(one, state))
    yield alerts


def _of_brakes() -> Iterator[Metric]:
    labels = ["rule", "step"]
    pulled = GaugeMetricFamily("relayweb_brakes_pulled", "Brakes that are pulled", labels=labels)
    waiting = GaugeMetricFamily("relayweb_brake_appeals_waiting", "Requests for release that nobody has answered")
    for row in Brake.objects.filter(ended_at=None).values("rule", "step").annotate(number=Count("id")).order_by():
        pulled.add_metric([row["rule"], row["step"]], row["number"])
    waiting.add_metric([], Appeal.objects.filter(answered_at=None).count())
    yield pulled
    yield waiting


class _FromTheDatabase:
    """Gauges whose truth stands in PostgreSQL. Labels are provider groups and nodes: bounded, and no tenant's business."""

    def collect(self) -> Iterator[Metric]:
        figures = queue_stats()
        queue = GaugeMetricFamily(
            "relayweb_queue_recipients", "Recipients that are not in a final state", labels=["provider", "state"]
        )
        for row in figures.by_provider:
            for state in ("due", "claimed", "deferred", "held"):
                queue.add_metric([row.provider, state], getattr(row, state))
        yield queue
        yield from _of_paths(figures.paths)
        yield from _of_warm_ups()
        yield from _of_source_checks()
        yield from _of_reputation()
        yield from _of_alerts()
        yield from _of_brakes()
        yield GaugeMetricFamily(
            "relayweb_queue_oldest_age_seconds", "Age of the oldest open recipient", value=figures.oldest_age_s
        )
        workers = GaugeMetricFamily(
            "relayweb_worker_heartbeat_age_seconds", "Time since a worker's heartbeat", labels=["slot", "part"]
        )
        strays = GaugeMetricFamily(
            "relayweb_partition_stray_rows",
            "Rows that found no partition of their day (at most 1000)",
            labels=["table"],
        )
        snapshot = GaugeMetricFamily(
            "relayweb_database_oldest_snapshot_seconds", "Age of the oldest transaction that keeps dead rows alive"
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT slot, part, extract(epoch FROM now() - heartbeat_at) FROM delivery_worker")
            for slot, part, age in cursor.fetchall():
                workers.add_metric([slot, part], float(age))
            cursor.execute(
                "SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0) FROM pg_stat_activity"
                " WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
            )
            snapshot.add_metric([], float(cursor.fetchone()[0]))
        for table, count in partitions.strays().items():
            strays.add_metric([table], count)
        yield workers
        yield strays
        yield snapshot


def exposition() -> bytes:
    """Everything, in the text format. Raises the database's errors."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_FromTheDatabase())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
        return generate_latest(registry)
    return generate_latest(registry) + generate_latest(REGISTRY)
