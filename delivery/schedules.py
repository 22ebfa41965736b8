"""A stream's retry schedule: its own, else what the environment says for all, else the default of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings

from delivery.core.retry import DEFAULT_BULK_SCHEDULE, DEFAULT_SCHEDULE, RetrySchedule
from delivery.models.stream import StreamKind


def of_stream(*, kind: str, delays_s: Sequence[int] | None, lifetime_s: int | None) -> RetrySchedule:
    default = DEFAULT_BULK_SCHEDULE if kind == StreamKind.BULK else DEFAULT_SCHEDULE
    lifetime = timedelta(seconds=lifetime_s or settings.QUEUE_LIFETIME_SECONDS or default.lifetime.total_seconds())
    if delays_s:
        return RetrySchedule(tuple(timedelta(seconds=delay) for delay in delays_s), lifetime)
    if settings.RETRY_SCHEDULE:
        return RetrySchedule.parse(settings.RETRY_SCHEDULE, lifetime)
    return RetrySchedule(default.delays, lifetime)
