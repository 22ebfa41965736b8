"""Celery's doors into delivery: each reads its input and calls one function. Losing a task costs time, never mail."""

from __future__ import annotations

from dataclasses import asdict

import structlog
from celery import shared_task

from delivery import (
    closing,
    content_sweep,
    domain_keys,
    domain_watch,
    jobs,
    partitions,
    reply_rules,
    retention,
    strikes,
    suppression_imports,
    suppressions,
    track_record,
)
from delivery.acceptance import once
from delivery.content_store import StoreTrouble
from delivery.domain_blocklists import checks as domain_list_checks
from delivery.provider_data import imports as provider_imports
from delivery.reputation import scores, senders
from delivery.shaping import changes as path_changes
from delivery.source_checks import checks as source_checks
from delivery.statistics import counting
from delivery.warmup import advancing, encountered

log = structlog.get_logger(__name__)


@shared_task(name="delivery.wake", ignore_result=True)
def wake() -> None:
    """Something may be due: the engine of this worker looks."""
    from delivery.engine import bootstep

    bootstep.ring()


@shared_task(name="delivery.make_partitions", ignore_result=True)
def make_partitions() -> None:
    """Tomorrow's tables exist today; also done after every migration."""
    made = partitions.ensure_ahead()
    strays = {table: count for table, count in partitions.strays().items() if count}
    if made or strays:
        log.info("partitions", made=len(made), strays=strays)


@shared_task(name="delivery.check_domains", ignore_result=True)
def check_domains() -> None:
    """Look up the records of the sending domains whose turn it is."""
    checked = domain_watch.check_due_domains()
    if checked:
        log.info("domains_checked", count=checked)


@shared_task(name="delivery.judge_strikes", ignore_result=True)
def judge_strikes() -> None:
    """What refusals say against addresses, and the second look at domains that did not exist."""
    strikes.judge_due()
    strikes.look_again()


@shared_task(name="delivery.forget_suppressions", ignore_result=True)
def forget_suppressions() -> None:
    """What cannot be restored or counted any more, mail that came back long ago, and keys that were replaced."""
    from delivery.reports import aggregates, incoming, owed

    forgotten = suppressions.forget_old() + strikes.forget_old() + incoming.forget_old() + aggregates.forget_old()
    forgotten += reply_rules.forget_old() + suppression_imports.forget_old() + owed.forget_old()
    forgotten += domain_keys.forget_retired()
    if forgotten:
        log.info("suppressions_forgotten", count=forgotten)


@shared_task(name="delivery.import_suppressions", ignore_result=True)
def import_suppressions() -> None:
    """Take up the lists that were handed in."""
    suppression_imports.run_waiting()


@shared_task(name="delivery.forget_idempotency_keys", ignore_result=True)
def forget_idempotency_keys() -> None:
    """Keys of requests that are a day old answer nobody any more."""
    forgotten = once.forget_old()
    if forgotten:
        log.info("idempotency_keys_forgotten", count=forgotten)


@shared_task(name="delivery.webhooks.look", ignore_result=True)
def look_for_events() -> None:
    """There may be something to tell: the caller of this worker looks."""
    from delivery.webhooks import bootstep

    bootstep.ring()


@shared_task(name="delivery.webhooks.raise_notices", ignore_result=True)
def raise_webhook_notices() -> None:
    """Notices about webhooks that were disabled without their people."""
    from delivery.webhooks import notices

    if raised := notices.raise_due():
        log.info("webhook_notices_raised", count=raised)


@shared_task(name="delivery.webhooks.forget", ignore_result=True)
def forget_webhook_calls() -> None:
    """Old days of the log of calls, events that nobody can be told any more, webhooks removed long ago."""
    from delivery.webhooks import forgetting

    if forgotten := forgetting.forget_old():
        log.info("webhook_calls_forgotten", **forgotten)


@shared_task(name="delivery.reports.read", ignore_result=True)
def read_reports() -> None:
    """Read what came back, and act on it."""
    # Imported here: delivery workers know this task too, and need none of the parsers.
    from delivery.reports import incoming

    if incoming.read_waiting():
        strikes.judge_due()


@shared_task(name="delivery.watch_tenants", ignore_result=True)
def watch_tenants() -> None:
    """What a tenant's people must be told: limits and domains. Letters follow from another task."""
    track_record.watch_limits()
    track_record.watch_domains()


@shared_task(name="delivery.look_at_brakes", ignore_result=True)
def look_at_brakes() -> None:
    """Brakes are pulled, and let go where slowed mail is clean again."""
    from delivery.brakes import looking

    looked = looking.look()
    if looked.pulled or looked.ended:
        log.info("brakes_judged", **asdict(looked))


@shared_task(name="delivery.watch_rates", ignore_result=True)
def watch_rates() -> None:
    """Bounces and complaints that rise; and tenants that have earned a higher limit."""
    track_record.watch_rates()
    risen = track_record.raise_trust()
    if risen:
        log.info("trust_raised", count=risen)


@shared_task(name="delivery.erase_tenants", ignore_result=True)
def erase_tenants() -> None:
    """What was closed long enough ago."""
    erased = closing.erase_due()
    if erased:
        log.info("tenants_erased", count=erased)


@shared_task(name="delivery.drop_old_content", ignore_result=True)
def drop_old_content() -> None:
    """Content whose time is over, and objects that lost their rows."""
    dropped = retention.drop_old()
    if dropped:
        log.info("content_dropped", partitions=len(dropped))
    try:
        deleted = content_sweep.sweep()
    except StoreTrouble as error:
        log.error("objects_not_swept", error=str(error))
        return
    if deleted:
        log.info("objects_swept", count=deleted)


@shared_task(name="delivery.drop_delivered_content", ignore_result=True)
def drop_delivered_content() -> None:
    """Content of tenants that keep none after delivery."""
    if deleted := retention.drop_delivered():
        log.info("delivered_content_dropped", count=deleted)


@shared_task(name="delivery.reports.write", ignore_result=True)
def write_reports() -> None:
    """Write the reports we owe to reverse-paths. Engines do so too, a few at a time; each is written once."""
    from delivery.reports import owed

    owed.write_waiting()


@shared_task(name="delivery.advance_warm_ups", ignore_result=True)
def advance_warm_ups() -> None:
    """Warm-ups advance, stay or step back by what their addresses have met with."""
    looked = advancing.look()
    if looked.changes:
        log.info("warm_ups_judged", **asdict(looked))


@shared_task(name="delivery.forget_path_hours", ignore_result=True)
def forget_path_hours() -> None:
    """What paths have met with long ago."""
    forgotten = encountered.forget_old()
    changed = path_changes.forget_old()
    if forgotten or changed:
        log.info("path_hours_forgotten", count=forgotten, changes=changed)


@shared_task(name="delivery.check_sources", ignore_result=True)
def check_sources() -> None:
    """Names, SPF, blocklists and port 25 of the source addresses whose hour has come."""
    source_checks.forget_old()
    checked = source_checks.check_due()
    if checked:
        log.info("sources_checked", count=len(checked), paused=[str(one.source) for one in checked if one.paused])


@shared_task(name="delivery.reach_out", ignore_result=True)
def reach_out(node: str) -> None:
    """Whether port 25 is open outwards from this node's addresses; sent to its own delivery workers."""
    log.info("port_25_looked_at", node=node, count=source_checks.reach_out_of(node))


@shared_task(name="delivery.check_domain_lists", ignore_result=True)
def check_domain_lists() -> None:
    """Sending domains are looked for in domain blocklists."""
    domain_list_checks.forget_old()
    if checked := domain_list_checks.check_due():
        log.info("domain_lists_checked", count=checked)


@shared_task(name="delivery.score_sources", ignore_result=True)
def score_sources() -> None:
    """How source addresses stand with receivers, and how tenants and domains send, written down every hour."""
    scores.forget_old()
    senders.forget_old()
    provider_imports.forget_old()
    scores.write_due()
    senders.write_due()


@shared_task(name="delivery.count_events", ignore_result=True)
def count_events() -> None:
    """What has happened becomes figures."""
    counting.count_waiting()


@shared_task(name="delivery.forget_statistics", ignore_result=True)
def forget_statistics() -> None:
    """Counters that no page asks for any more."""
    forgotten = counting.forget_old()
    if forgotten:
        log.info("statistics_forgotten", count=forgotten)


@shared_task(name="delivery.work_on_jobs", ignore_result=True)
def work_on_jobs() -> None:
    """Exports, and changes to all that a filter finds."""
    jobs.work()


@shared_task(name="delivery.forget_jobs", ignore_result=True)
def forget_jobs() -> None:
    """Exported files past their time."""
    forgotten = jobs.forget_old()
    if forgotten:
        log.info("jobs_forgotten", count=forgotten)
