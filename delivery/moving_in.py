"""What other systems wrote out, taken over: suppressions and sending domains (delivery.core.foreign_lists reads the files).

A dry run does everything and takes it back, so that what it tells is what would happen. Twice on one day changes nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import Tenant
from accounts.refusals import Refused
from delivery import domains, suppression_files
from delivery.core import foreign_lists, suppressing
from delivery.core.classification import ReplyClass
from delivery.core.foreign_lists import ForeignListError, ForeignSuppression, ListKind, RowFault, System
from delivery.core.suppressing import CARRIER_GROUPS
from delivery.models import SuppressionReason
from delivery.shaping.providers import providers
from delivery.suppression_files import Imported
from delivery.suppressions import Cause, Owner

_REASONS = {
    ListKind.BOUNCES: SuppressionReason.BOUNCE,
    ListKind.COMPLAINTS: SuppressionReason.COMPLAINT,
    ListKind.UNSUBSCRIBES: SuppressionReason.UNSUBSCRIBE,
}


def take_suppressions(
    owner: Owner, text: str, *, system: System, kind: ListKind | None, actor: Actor, is_dry: bool = False
) -> Imported:
    """Raises Refused for what is no list of that system, and beyond 100,000 rows; then nothing is written."""
    with transaction.atomic():
        try:
            read = foreign_lists.read_suppressions(text, system=system, kind=kind)
            done = suppression_files.import_rows(owner, _rows(read, owner, system, now=timezone.now()), actor=actor)
        except ForeignListError as error:
            raise Refused(str(error), reason="list_unreadable", field="file") from None
        transaction.set_rollback(is_dry)
    return done


def _rows(
    read: Iterator[ForeignSuppression | RowFault], owner: Owner, system: System, *, now: datetime
) -> Iterator[tuple[int, str, Cause | Refused]]:
    for one in read:
        if isinstance(one, RowFault):
            yield one.row, "", Refused(one.sentence, reason="row_unusable")
        elif one.keep_until is not None and one.keep_until < now:
            yield one.row, one.address, Refused("It was over there already.", reason="row_over")
        elif one.only and owner.stream is None:
            sentence = f"It is for {one.only} alone: take it into a stream."
            yield one.row, one.address, Refused(sentence, reason="row_partial")
        else:
            yield one.row, one.address, _cause(one, system, now=now)


def _cause(one: ForeignSuppression, system: System, *, now: datetime) -> Cause:
    detail = f"{system}: {one.detail}" if one.detail else str(system)
    if one.kind is not ListKind.BOUNCES:
        # What recipients asked for has no end.
        return Cause(_REASONS[one.kind], detail=detail)
    # As for a bounce of our own: mailboxes come back, and are given to other people. Whole days, so that a list that is read
    # twice changes nothing.
    domain = one.address.rpartition("@")[2].lower()
    is_carrier = any(group.key in CARRIER_GROUPS and group.has_domain(domain) for group in providers())
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    own_end = today + suppressing.lasts(ReplyClass.BAD_MAILBOX, is_carrier=is_carrier)
    until = own_end if one.keep_until is None else min(one.keep_until, own_end)
    return Cause(_REASONS[one.kind], reply_class=ReplyClass.BAD_MAILBOX, detail=detail, expires_at=until)


@dataclass(slots=True)
class TakenDomains:
    """``added`` by name; ``errors`` are names with a sentence each, those that the tenant has already among them."""

    added: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def take_domains(tenant: Tenant, text: str, *, actor: Actor, is_dry: bool = False) -> TakenDomains:
    """Claim each domain; nobody's word but the DNS proves them. Raises Refused for what is no list."""
    done = TakenDomains()
    with transaction.atomic():
        try:
            names = foreign_lists.read_domains(text)
        except ForeignListError as error:
            raise Refused(str(error), reason="list_unreadable", field="file") from None
        for name in names:
            try:
                done.added.append(domains.add_domain(tenant, name, actor=actor).name)
            except Refused as refusal:
                done.errors.append((name, refusal.sentence))
        transaction.set_rollback(is_dry)
    return done
