"""One webhook in the hands of its caller: its due events by subject, and the calls under way.

Of one subject (a recipient) one call is made at a time; different subjects are told side by side. A batch takes what is due
of several subjects, each in order.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from django.conf import settings

from accounts import clock, sealing
from delivery.core import webhooks
from delivery.models import Webhook, WebhookState
from delivery.models.webhook import DisabledReason
from delivery.webhooks import outbox
from delivery.webhooks.calling import Answer
from delivery.webhooks.formats import FORMATS
from delivery.webhooks.outbox import Called, EventRow, Standing, Waiting, WebhookRow
from delivery.webhooks.told import Format, Told

if TYPE_CHECKING:
    from delivery.webhooks.caller import Caller

log = structlog.get_logger(__name__)

_FEWEST_FETCHED, _MOST_FETCHED = 10, 500
# How many events are fetched for each that may be called with; again when a fifth is left.
_FETCHED_PER_CALL = 16
_LINGER_S = 2.0
_FIRST_WINDOW = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


@dataclass(frozen=True, slots=True)
class _Due:
    row: EventRow
    told: Told


class Served:
    """``key`` is the webhook's id. ``look`` says that there may be more to tell."""

    def __init__(self, caller: Caller, key: UUID) -> None:
        self.key = key
        self.in_flight = 0
        self.is_lost = False
        self._caller = caller
        self._row: WebhookRow | None = None
        self._secrets: list[str] = []
        self._by_subject: dict[UUID, deque[_Due]] = {}
        self._ready: deque[UUID] = deque()
        self._known: set[int] = set()
        # Subjects of which a call failed while a portion was being fetched: in it, nothing stands behind what failed.
        self._failed_meanwhile: set[UUID] = set()
        self._window = _FIRST_WINDOW
        self._failures = 0
        self._failing_since: datetime | None = None
        self._is_resting = False
        self._disabled: DisabledReason | None = None
        self._test_id: UUID | None = None
        self._has_more = True
        self._not_before = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._changed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether looking for more can wait."""
        return self._has_more or self._has_enough or time.monotonic() < self._not_before

    @property
    def _most_known(self) -> int:
        """Few while the endpoint has to show that it answers: what is not told in time was fetched for nothing."""
        at_once = int(self._window) * (self._row.most_in_a_call if self._row is not None else 1)
        return min(max(at_once * _FETCHED_PER_CALL, _FEWEST_FETCHED), _MOST_FETCHED)

    @property
    def _has_enough(self) -> bool:
        return len(self._known) > self._most_known // 5

    def look(self) -> None:
        self._has_more = True
        self._changed.set()

    async def run(self) -> None:
        """Until there has been nothing to do for a moment, the endpoint rests, or the webhook is not ours any more."""
        try:
            while self._may_go_on:
                self._changed.clear()
                if self._has_more and not self._has_enough:
                    await self._fetch()
                self._start_calls()
                if self._changed.is_set():
                    continue
                if self._calls or self._known:
                    # A bound of the tenant's may keep us from calling; somebody else's call ends it.
                    await self._wait(0.05 if not self._calls else None)
                elif not await self._wait(_LINGER_S):
                    return
            await self._finish_calls()
        finally:
            for task in self._calls:
                task.cancel()

    @property
    def _may_go_on(self) -> bool:
        return not (self._caller.is_stopping or self.is_lost or self._is_resting or self._disabled)

    async def _wait(self, seconds: float | None) -> bool:
        """Whether something changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
                return True
        return False

    async def _finish_calls(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls)

    # ---------------------------------------------------------------- what is to be told

    async def _fetch(self) -> None:
        self._has_more = False
        self._failed_meanwhile.clear()
        async with self._caller.pool.connection() as connection:
            row = await outbox.read_webhook(connection, self.key, me=self._caller.me)
            if row is None:
                self.is_lost = True
                return
            self._take_over(row)
            if row.state != WebhookState.ACTIVE:
                self._forget_all()
                return
            most = self._most_known - len(self._known)
            events = await outbox.due_events(connection, self.key, known=self._known, most=most)
            self._has_more = self._has_more or len(events) >= most
            self._pace(found=bool(events))
            told = await outbox.told_of(connection, row, events)
            sure = [event for event in events if event.subject_id not in self._failed_meanwhile]
            behind = [event for event in sure if not self._take(event, told[event.id])]
            if behind:
                await outbox.stand_behind(connection, behind)

    def _pace(self, *, found: bool) -> None:
        """All that is due being under way already, there is no hurry to look again."""
        self._pause_s = _FIRST_PAUSE_S if found else min(self._pause_s * 2, _LONGEST_PAUSE_S)
        self._not_before = 0.0 if found else time.monotonic() + self._pause_s

    def _take_over(self, row: WebhookRow) -> None:
        if self._row is None:
            self._failures, self._failing_since = row.failures, row.failing_since
            if self._failures >= webhooks.FAILURES_BEFORE_REST:
                self._window = 1.0
        self._row = row
        context = Webhook.sealing_context(self.key)
        sealed = [row.sealed_secret, *([row.sealed_former_secret] if row.sealed_former_secret else [])]
        self._secrets = [sealing.unseal(secret, context=context).decode() for secret in sealed]
        if row.test_id is not None and row.test_id != self._test_id:
            self._test_id = row.test_id
            self._begin(self._test(row, row.test_id))

    def _take(self, event: EventRow, told: Told) -> bool:
        """False where it waits for an earlier event of its subject that is not here."""
        if event.behind is not None and event.behind not in self._known:
            return False
        if event.id in self._known:
            return True
        waiting = self._by_subject.get(event.subject_id)
        if waiting is None:
            self._by_subject[event.subject_id] = deque([_Due(event, told)])
            self._ready.append(event.subject_id)
        else:
            waiting.append(_Due(event, told))
        self._known.add(event.id)
        return True

    def _forget_all(self) -> None:
        """What is in flight stays known."""
        for subject in self._ready:
            for due in self._by_subject.pop(subject, ()):
                self._known.discard(due.row.id)
        self._ready.clear()

    # ---------------------------------------------------------------- calls

    def _start_calls(self) -> None:
        row = self._row
        if row is None or row.state != WebhookState.ACTIVE:
            return
        bound = settings.WEBHOOK_CALLS_AT_ONCE_PER_TENANT
        while self._ready and self.in_flight < int(self._window) and self._caller.tenant_calls[row.tenant_id] < bound:
            self._begin(self._tell(row, self._take_portion(row)))

    def _take_portion(self, row: WebhookRow) -> list[_Due]:
        most = row.most_in_a_call if self._format(row).can_batch else 1
        portion: list[_Due] = []
        while self._ready and len(portion) < most:
            waiting = self._by_subject[self._ready.popleft()]
            # What is taken stays at the head of its subject until it is settled.
            portion += list(waiting)[: most - len(portion)]
        return portion

    def _begin(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._calls.add(task)
        self.in_flight += 1
        if self._row is not None:
            self._caller.tenant_calls[self._row.tenant_id] += 1
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self.in_flight -= 1
        assert self._row is not None
        self._caller.tenant_calls[self._row.tenant_id] -= 1
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_call_broke", webhook=str(self.key), exc_info=error)
            self.is_lost = True

    async def _tell(self, row: WebhookRow, portion: Sequence[_Due]) -> None:
        events = [due.told for due in portion]
        called_at = clock.now()
        request = self._format(row).request(events, secrets=self._secrets, now=called_at)
        answer = await self._caller.http.post(row.url, request.body, request.headers)
        self._learn(answer)
        waiting = [] if answer.is_good else self._waits(portion, answer)
        told = [due.row.id for due in portion] if answer.is_good else []
        number = portion[0].row.calls + 1
        await self._caller.settler.settle(
            Called(row, called_at, events, number, request, answer, told=told, waiting=waiting),
            self._standing(answer, called_at),
        )
        self._let_go(portion, is_told=answer.is_good)

    async def _test(self, row: WebhookRow, test_id: UUID) -> None:
        """A call that somebody asked for: it tells nothing of how the endpoint does, and is made once."""
        called_at = clock.now()
        event = test_event(row, test_id, now=called_at)
        request = self._format(row).request([event], secrets=self._secrets, now=called_at)
        answer = await self._caller.http.post(row.url, request.body, request.headers)
        await self._caller.settler.settle(Called(row, called_at, [event], 1, request, answer, test_id=test_id), None)

    def _waits(self, portion: Sequence[_Due], answer: Answer) -> list[Waiting]:
        jitter = random.uniform(-1, 1)  # noqa: S311 - spreads load
        wait_after = self._caller.schedule.wait_after
        return [
            Waiting(
                due.row.id,
                due.row.subject_id,
                wait_after(due.row.calls + 1, jitter=jitter, asked_for=answer.asked_for),
            )
            for due in portion
        ]

    def _let_go(self, portion: Sequence[_Due], *, is_told: bool) -> None:
        """What was told is done with; behind what failed nothing of its subject is told, until it is fetched again."""
        for due in portion:
            waiting = self._by_subject.get(due.row.subject_id)
            if waiting is None:
                continue
            if is_told:
                self._known.discard(waiting.popleft().row.id)
            else:
                self._known.difference_update(one.row.id for one in waiting)
                del self._by_subject[due.row.subject_id]
                self._failed_meanwhile.add(due.row.subject_id)
        if not is_told:
            self._has_more = True  # a dead event's followers are due
            return
        for subject in dict.fromkeys(due.row.subject_id for due in portion):
            if self._by_subject[subject]:
                self._ready.append(subject)
            else:
                del self._by_subject[subject]

    # ---------------------------------------------------------------- how the endpoint does

    def _learn(self, answer: Answer) -> None:
        if answer.is_good:
            self._failures, self._failing_since = 0, None
            self._window = min(self._window + 1, float(settings.WEBHOOK_CALLS_AT_ONCE))
            return
        now = clock.now()
        self._failures += 1
        self._failing_since = self._failing_since or now
        self._window = 1.0 if self._failures >= webhooks.FAILURES_BEFORE_REST else max(1.0, self._window / 2)
        patience = timedelta(seconds=settings.WEBHOOK_DISABLE_AFTER_SECONDS)
        if answer.says_gone:
            self._disabled = DisabledReason.GONE
        elif webhooks.has_failed_for_good(self._failing_since, now=now, patience=patience):
            self._disabled = DisabledReason.FAILING

    def _standing(self, answer: Answer, called_at: datetime) -> Standing:
        rest = webhooks.rest_after(self._failures, jitter=random.uniform(-1, 1))  # noqa: S311 - as above
        self._is_resting = self._is_resting or rest is not None
        return Standing(
            self.key,
            called_at,
            answer.outcome,
            answer.status,
            self._failures,
            self._failing_since,
            rest,
            self._disabled,
        )

    def _format(self, row: WebhookRow) -> Format:
        return FORMATS[row.format]


def test_event(row: WebhookRow, test_id: UUID, *, now: datetime) -> Told:
    return Told(
        id=test_id,
        kind=webhooks.TEST,
        occurred_at=now,
        tenant_id=row.tenant_id,
        tenant_slug=row.tenant_slug,
        subject_id=test_id,
        data={"note": "A test call, asked for by hand."},
    )
