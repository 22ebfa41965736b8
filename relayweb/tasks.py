"""Celery's doors into letters and people: housekeeping only."""

from __future__ import annotations

import structlog
from celery import shared_task
from django.db import transaction

from accounts import browsers, notices, signups
from accounts.models import Notice, User
from relayweb import letters
from relayweb.console import telling

log = structlog.get_logger(__name__)


@shared_task(name="relayweb.mail_notices", ignore_result=True)
def mail_notices() -> None:
    """Each notice to those who want it; one that could be handed over to nobody waits for the next time."""
    for notice in notices.to_be_mailed():
        # Locked until it is marked: nobody writes it beside us, and a process that dies leaves it to the next.
        with transaction.atomic():
            if not notices.lock_unmailed(notice):
                continue
            readers = [] if notice.tenant.is_system else notices.readers_of(notice)
            handed_over = [_write_to(person, notice) for person in readers]
            if any(handed_over) or not readers:
                notices.mark_mailed(notice)


def _write_to(person: User, notice: Notice) -> bool:
    """False where the letter could not be handed over. One reader's trouble is not the others'."""
    try:
        letters.deliver(person.email, telling.letter_of(notice, person), language=person.language)
    except Exception:
        log.exception("notice_not_mailed", notice=str(notice.id), kind=notice.kind)
        return False
    return True


@shared_task(name="relayweb.watch_alerts", ignore_result=True)
def watch_alerts() -> None:
    """What operators must know of: opened, closed and told."""
    from relayweb import alerting

    done = alerting.look_and_tell()
    if any(done.values()):
        log.info("alerts", **done)


@shared_task(name="relayweb.forget_alerts", ignore_result=True)
def forget_alerts() -> None:
    """Alerts that were over long ago."""
    from delivery.alerts import episodes

    if forgotten := episodes.forget_old():
        log.info("alerts_forgotten", count=forgotten)


@shared_task(name="relayweb.forget_people", ignore_result=True)
def forget_people() -> None:
    """Sign-ups, sessions and notices that are over."""
    forgotten = {
        "sign_ups": signups.forget_old(), "sessions": browsers.forget_old(), "notices": notices.forget_old(),
    }  # fmt: skip
    if any(forgotten.values()):
        log.info("forgotten", **forgotten)
