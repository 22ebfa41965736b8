"""Celery's doors into letters and people: housekeeping only."""

from __future__ import annotations

import structlog
from celery import shared_task

from accounts import browsers, notices, signups
from relayweb import letters
from relayweb.console import telling

log = structlog.get_logger(__name__)


@shared_task(name="relayweb.mail_notices", ignore_result=True)
def mail_notices() -> None:
    """Each notice to those who want it. Marked first: a letter lost with a process is better than one sent each minute."""
    for notice in notices.to_be_mailed():
        if notice.tenant.is_system or not notices.mark_mailed(notice):
            continue
        for person in notices.readers_of(notice):
            try:
                letters.deliver(person.email, telling.letter_of(notice, person), language=person.language)
            except Exception:
                log.exception("notice_not_mailed", notice=str(notice.id), kind=notice.kind)


@shared_task(name="relayweb.forget_people", ignore_result=True)
def forget_people() -> None:
    """Sign-ups, sessions and notices that are over."""
    forgotten = {
        "sign_ups": signups.forget_old(), "sessions": browsers.forget_old(), "notices": notices.forget_old(),
    }  # fmt: skip
    if any(forgotten.values()):
        log.info("forgotten", **forgotten)
