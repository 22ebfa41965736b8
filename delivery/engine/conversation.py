"""One attempt: find the hops, get a connection, hand the message over, judge the answer, settle.

Whatever goes wrong on the way is a reply; only ``judge`` decides what it means. An attempt that never began (the mail goes
another way by now, the engine stops, the fence is lost, the database is away) gives its entry back. A fault of ours that
would be met again, such as a signing key that cannot be opened, defers like the reply of a host, so that it is seen.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

import msgspec
import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from accounts import clock, sealing
from accounts.identifiers import uuid7
from delivery.core.classification import UNCLASSIFIED
from delivery.core.envelope import DsnParameters
from delivery.core.mailbox import NULL_REVERSE_PATH, Mailbox
from delivery.core.outcome import Outcome, judge
from delivery.core.reply import Origin, Phase, Reply, made_up
from delivery.core.retry import RetrySchedule
from delivery.core.states import RecipientState
from delivery.core.verp import make_bounce_mailbox
from delivery.engine.assignments import Assignment
from delivery.engine.committer import Release
from delivery.engine.dressing import dress
from delivery.engine.path import NotNow, OwnedPath
from delivery.engine.services import Services
from delivery.models import GroupKind, Route
from delivery.queue.claim import ClaimedEntry, Mark
from delivery.routing import lookup
from delivery.settlement import AttemptRecord, Settled
from delivery.transport.hops import Hop, MxHosts, Smarthost, find_hops, find_mx_hosts
from delivery.transport.rendering import LoadedContent, render_for
from delivery.transport.session import FenceLost, Login, SessionFailed, SmtpSession
from delivery.transport.tls_policy import TlsMode, TlsPolicy, TlsSource
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind

log = structlog.get_logger(__name__)

# How long reports about a message may come back to its signed reverse-path.
_BOUNCES_BELIEVED = timedelta(days=30)
# After trouble with our own database the entry waits a moment, so that trouble that lasts does not spin.
# Until the engine has seen that the source address is out of use.
_UNUSABLE_SOURCE_S = 1.0
_AFTER_TROUBLE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where this attempt goes."""

    hops: list[Hop]
    tls: TlsPolicy
    login: Login | None


class _GoesElsewhere(Exception):
    """The recipient's domain belongs to another provider group by now."""

    def __init__(self, group_id: int) -> None:
        super().__init__(group_id)
        self.group_id = group_id


class Conversation:
    """Made for one claimed entry on one path."""

    def __init__(self, path: OwnedPath, entry: ClaimedEntry, assignment: Assignment, services: Services) -> None:
        self._path = path
        self._entry = entry
        self._assignment = assignment
        self._services = services
        self._attempt_id = uuid7()
        self._started_at = clock.now()
        self._transcript = Transcript()
        self._session: SmtpSession | None = None
        self._hop: Hop | None = None
        self._schedule: RetrySchedule | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_withdrawn = False
        self._is_ending = False
        self.is_past_the_dot = False
        self.has_turn = False

    async def run(self) -> None:
        """Always ends with the entry settled or given back, unless the fence was lost."""
        self._task = asyncio.current_task()
        try:
            await self._end(*await self._attempt())
        finally:
            if self._session is not None:
                self._path.connections.release(self._session)

    def withdraw(self) -> bool:
        """Give the entry back; False when it is too late for that: the host may have the mail, or has said no."""
        if self.is_past_the_dot or self._is_ending:
            return False
        self._is_withdrawn = True
        if self._task is not None:
            self._task.cancel()
        return True

    async def _attempt(self) -> tuple[Settled | Release | None, Outcome | None]:
        """How it ends. None: past the dot nothing may be given back, the next owner records it as ambiguous."""
        try:
            if self._is_withdrawn:
                return self._release(), None
            # Asked before anything is said: once the host has answered, nothing but the settlement may fail.
            self._schedule = await self._services.schedules.of(self._assignment.stream_id)
            return await self._judged(*await self._converse())
        except _GoesElsewhere as elsewhere:
            return await self._moved(elsewhere.group_id), None
        except NotNow as later:
            return self._release(delay=timedelta(seconds=later.seconds)), None
        except FenceLost:
            # The entry is somebody else's, or the mark could not be written: then giving back is harmless or right.
            return self._release(), None
        except asyncio.CancelledError:
            if not self._is_withdrawn:
                raise
            return self._release(), None
        except (psycopg.Error, PoolTimeout, OSError) as error:
            log.warning("attempt_put_off", **self._names(), error=str(error), kind=type(error).__name__)
            return (None if self.is_past_the_dot else self._release(delay=_AFTER_TROUBLE)), None
        except Exception as error:
            log.exception("attempt_failed_here", **self._names())
            if self.is_past_the_dot or self._schedule is None:
                return (None if self.is_past_the_dot else self._release(delay=_AFTER_TROUBLE)), None
            self._transcript.note(f"a fault of ours: {type(error).__name__}")
            return await self._judged(_our_fault(), False)

    async def _end(self, ending: Settled | Release | None, outcome: Outcome | None) -> None:
        self._is_ending = True
        if isinstance(ending, Release):
            await self._services.committer.release(ending)
        elif isinstance(ending, Settled) and await self._services.committer.settle(ending):
            assert outcome is not None
            await self._services.learn(self._path, outcome, lane_id=self._entry.lane_id)
            reply = outcome.reply.line
            log.info("attempted", **self._names(), state=outcome.state, attempt=self._entry.attempts, reply=reply)

    async def _converse(self) -> tuple[Reply, bool]:
        """The last word of the attempt, and whether the host may have the message without our knowing."""
        destination = await self._find_destination()
        if isinstance(destination, Reply):
            self._transcript.note(destination.text)
            return destination, False
        async with self._services.contents.hold(self._assignment.content) as loaded:
            try:
                return await self._hand_over(destination, loaded)
            except SessionFailed as failed:
                self._hop = failed.hop or destination.hops[0]
                if failed.kind is FailureKind.CANNOT_BIND:
                    # Ours to mend: the recipient's host was never asked, and other addresses may take the mail.
                    await self._services.source_is_unusable(self._path.source, failed.reply.text)
                    raise NotNow(_UNUSABLE_SOURCE_S) from None
                return failed.reply, False

    async def _find_destination(self) -> _Destination | Reply:
        route = self._services.routes.match(self._entry.tenant_id, self._assignment.domain)
        if route is not None:
            if route.group_id != self._path.row.group_id:
                raise _GoesElsewhere(route.group_id)
            password = (
                sealing.unseal(route.sealed_password, context=Route.sealing_context(route.id)).decode()
                if route.sealed_password
                else None
            )
            smarthost = Smarthost(route.host, route.port, TlsMode(route.tls), route.username or None, password)
            login = Login(route.username, password) if route.username and password else None
            # The operator chose the host, so it may be private; a tenant's route is held to the rules for strangers.
            guard = self._services.guard if route.tenant_id else None
            policy = TlsPolicy(TlsMode(route.tls), settings.CA_FILE or None, source=TlsSource.ROUTE)
            return await self._with_hops(smarthost, self._as_the_message_asks(policy), login, guard)
        mx_hosts = await find_mx_hosts(self._assignment.domain, self._services.resolver)
        if isinstance(mx_hosts, Reply):
            return mx_hosts
        group = lookup.group_of(mx_hosts)
        if group.key != self._path.row.group_key and self._services.may_move(self._entry.recipient_id):
            raise _GoesElsewhere(await self._services.group_id_of(group))
        policy = TlsPolicy(TlsMode(self._path.limits.tls), settings.CA_FILE or None, source=TlsSource.PROVIDER_GROUP)
        policy = self._as_the_message_asks(policy)
        chosen = await self._services.tls.for_domain(mx_hosts, policy, note=self._transcript.note)
        if isinstance(chosen, Reply):
            return chosen
        destination = await self._with_hops(chosen.mx_hosts, chosen.tls, None, self._services.guard)
        if isinstance(destination, Reply):
            return destination
        hops = await self._services.tls.for_hops(destination.hops, chosen, note=self._transcript.note)
        return hops if isinstance(hops, Reply) else replace(destination, hops=hops)

    def _as_the_message_asks(self, policy: TlsPolicy) -> TlsPolicy:
        """A mail can only ask for more than is asked anyway."""
        if not self._assignment.tls:
            return policy
        wanted = TlsMode(self._assignment.tls)
        return policy.at_least(wanted, ca_file=settings.CA_FILE or None, source=TlsSource.MESSAGE)

    async def _with_hops(
        self, target: MxHosts | Smarthost, tls: TlsPolicy, login: Login | None, guard: object
    ) -> _Destination | Reply:
        hops = await find_hops(
            target,
            self._services.resolver,
            port=settings.OUTBOUND_PORT,
            guard=guard,  # type: ignore[arg-type]
            families=self._path.source.speaks,
        )
        return hops if isinstance(hops, Reply) else _Destination(hops, tls, login)

    async def _hand_over(self, destination: _Destination, loaded: LoadedContent) -> tuple[Reply, bool]:
        dressing = await dress(
            self._assignment, loaded, self._services, group=self._path.row, reports_until=self._reports_until
        )
        is_fresh = False
        while True:
            self._session = session = await self._path.connections.acquire(
                destination.hops,
                tls=destination.tls,
                login=destination.login,
                transcript=self._transcript,
                is_fresh=is_fresh,
            )
            self._hop = session.hop
            rendering = await render_for(
                loaded,
                dressing=dressing,
                now=clock.now(),
                has_8bitmime=session.has_8bitmime,
                has_smtputf8=session.has_smtputf8,
                needs_smtputf8=self._assignment.needs_smtputf8,
                is_ascii_envelope=self._reverse_path.isascii() and self._recipient.isascii(),
            )
            if rendering.note is not None:
                self._transcript.note(rendering.note)
            if not self.has_turn:
                await self._path.message_turn()
                self.has_turn = True
            delivery = await session.deliver(
                reverse_path=self._reverse_path,
                recipient=self._recipient,
                content=rendering.chunks,
                body=rendering.body,
                smtputf8=rendering.smtputf8,
                dsn=self._dsn,
                mark_dot=self._mark_dot,
                transcript=self._transcript,
            )
            if not delivery.is_stale:
                return delivery.reply, delivery.is_ambiguous
            self._path.connections.release(session)
            self._session = None
            is_fresh = True

    async def _mark_dot(self) -> bool:
        mark = Mark(
            recipient_id=self._entry.recipient_id,
            path_id=self._path.row.id,
            fence=self._path.row.fence,
            attempt_id=self._attempt_id,
            host=self._hop.host if self._hop else "",
        )
        self.is_past_the_dot = await self._services.committer.mark(mark)
        return self.is_past_the_dot

    @cached_property
    def _recipient(self) -> str:
        """The carriers that issued addresses outside the grammar take them as they are; everybody else gets them quoted."""
        mailbox = Mailbox.from_address(self._assignment.address)
        return mailbox.bare if self._path.limits.takes_bare_addresses else mailbox.quoted

    @cached_property
    def _reverse_path(self) -> str:
        """Signed per recipient, so that a report finds its recipient; the customer's own where he wants it kept."""
        assignment = self._assignment
        if assignment.has_own_reverse_path:
            return (
                Mailbox.from_address(assignment.reverse_path).quoted if assignment.reverse_path else NULL_REVERSE_PATH
            )
        mailbox = make_bounce_mailbox(
            assignment.recipient_id,
            assignment.bounce_host or settings.BOUNCE_DOMAIN,
            key=self._services.verp_key,
            expires_on=self._reports_until,
        )
        return mailbox.quoted

    @cached_property
    def _dsn(self) -> DsnParameters | None:
        """Said to the host where reports go to the client. Ours come to us, and what is owed to him we tell ourselves."""
        assignment = self._assignment
        if not assignment.has_own_reverse_path:
            return None
        return DsnParameters(
            ret=assignment.dsn_ret,
            envid=assignment.dsn_envid,
            notify=tuple(assignment.dsn_notify or ()),
            orcpt=assignment.dsn_orcpt,
        )

    @property
    def _reports_until(self) -> date:
        # From the acceptance on, so that every attempt has the same reverse-path and greylisting knows us again.
        return (self._entry.accepted_at + _BOUNCES_BELIEVED).date()

    async def _judged(self, reply: Reply, is_ambiguous: bool) -> tuple[Settled, Outcome]:
        self._is_ending = True
        assert self._schedule is not None
        ended_at = clock.now()
        outcome = judge(
            reply,
            provider_group=self._path.row.group_key,
            attempts=self._entry.attempts,
            accepted_at=self._entry.accepted_at,
            schedule=self._schedule,
            now=ended_at,
            is_ambiguous=is_ambiguous,
            jitter=random.uniform(-1, 1),  # noqa: S311 - spreads load, hides nothing
            rules=self._services.rules,
        )
        self._count(reply, outcome)
        settled = Settled(
            entry=self._entry,
            path_id=self._path.row.id,
            fence=self._path.row.fence,
            attempt=self._record(ended_at),
            outcome=outcome,
            lane_id=await self._lane_for(outcome),
            is_told_onwards=self._dsn is not None and self._session is not None and self._session.has_dsn,
        )
        return settled, outcome

    def _count(self, reply: Reply, outcome: Outcome) -> None:
        """For the operators, who see which of their rules decide, and what a rule is missing for."""
        decided, row = outcome.cause or outcome.classification, self._path.row
        if decided == UNCLASSIFIED:
            self._services.unmatched.note(reply, row.group_key if row.group_kind == GroupKind.PROVIDER else "")
        elif decided is not None and self._services.rules.has(decided.rule):
            self._services.rule_hits.note(decided.rule)

    async def _lane_for(self, outcome: Outcome) -> int | None:
        if outcome.state is not RecipientState.DEFERRED or not outcome.stays_on_source:
            return None
        try:
            return await self._services.lane_in_group(
                self._entry.lane_id, self._path.row.group_id, pinned_to=self._path.source.id
            )
        except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
            # What the host said counts more than from where it is asked again.
            log.warning("not_pinned", **self._names(), error=str(error))
            return None

    def _record(self, ended_at: datetime) -> AttemptRecord:
        session, hop = self._session, self._hop
        return AttemptRecord(
            id=self._attempt_id,
            started_at=self._started_at,
            ended_at=ended_at,
            source_id=self._path.source.id,
            source_address=self._path.source.address or (session.local_address if session else None),
            worker=self._services.me.slot,
            host=hop.host if hop else "",
            host_address=hop.address if hop else None,
            port=hop.port if hop else None,
            tls_version=(session.tls_version or "") if session else "",
            tls_cipher=(session.tls_cipher or "") if session else "",
            transcript=msgspec.json.encode(self._transcript.to_json()),
        )

    def _release(self, *, lane_id: int | None = None, delay: timedelta = timedelta(0)) -> Release:
        return Release(self._entry, self._path.row.id, self._path.row.fence, lane_id=lane_id, delay=delay)

    async def _moved(self, group_id: int) -> Release:
        try:
            lane_id = await self._services.lane_in_group(self._entry.lane_id, group_id)
            await self._services.remember_group(self._entry.domain_route_id, group_id)
        except (psycopg.Error, PoolTimeout, OSError, LookupError) as error:
            log.warning("not_moved", **self._names(), error=str(error))
            return self._release(delay=_AFTER_TROUBLE)
        return self._release(lane_id=lane_id)

    def _names(self) -> dict[str, str]:
        return {
            "message": str(self._entry.message_id),
            "recipient": str(self._entry.recipient_id),
            "group": self._path.row.group_key,
            "host": self._hop.host if self._hop else "",
        }


def _our_fault() -> Reply:
    return made_up(Phase.ROUTING, 451, "4.3.0", "a fault of ours kept this attempt from being made", Origin.OWN)
