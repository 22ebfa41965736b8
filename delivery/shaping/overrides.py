"""What operators change about shaping while everything runs: limits of a provider group, suspensions and pace of its paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from delivery.models import Path, ProviderGroup
from delivery.queue import wake
from delivery.shaping import changes
from delivery.shaping.providers import Limits, default_limits, providers

NAMES = ("connections", "messages_per_connection", "messages", "new_connections", "daily", "tls")


def limits_of(group: ProviderGroup) -> Limits:
    """As they are in force, without what a route says."""
    return default_limits(group.key, group.kind).overridden(group.limits)


def find_group(key: str) -> ProviderGroup | None:
    """A group that was met before, or one that is known by name."""
    group = ProviderGroup.objects.filter(key=key).first()
    if group is not None:
        return group
    known = next((provider for provider in providers() if provider.key == key), None)
    return None if known is None else ProviderGroup(key=key, kind="provider", title=known.title)


def set_limits(key: str, changes: Mapping[str, Any]) -> Limits:
    """Override limits of a group; None takes an override back. Raises LookupError, or ValueError with a sentence."""
    unknown = sorted(set(changes) - set(NAMES))
    if unknown:
        raise ValueError(f"there is no limit {', '.join(unknown)}; there are {', '.join(NAMES)}")
    with transaction.atomic():
        group = find_group(key)
        if group is None:
            raise LookupError(f"there is no provider group {key}")
        merged = {**group.limits, **changes}
        group.limits = {name: value for name, value in merged.items() if value is not None}
        limits = limits_of(group)
        group.save()
        _tell_engines()
    return limits


def release_paths(key: str, *, source: str | None = None) -> int:
    """End suspensions and slowed pace of a group's paths and lanes; returns how many paths were changed."""
    with transaction.atomic():
        paths = Path.objects.filter(group__key=key)
        if source is not None:
            paths = paths.filter(source__address=source)
        touched = list(paths.exclude(suspended_until__isnull=True, pace_share=1.0).select_for_update(of=("self",)))
        changes.write_by_hand(touched, reason=changes.RELEASED)
        changed = Path.objects.filter(pk__in=[path.pk for path in touched]).update(
            suspended_until=None, suspended_reason="", suspension_s=0, pace_share=1.0, pace_reason=""
        )
        if source is None:
            with connection.cursor() as cursor:
                cursor.execute(
                    """UPDATE delivery_lane SET suspended_until = NULL, suspended_reason = ''
                       WHERE group_id = (SELECT id FROM delivery_providergroup WHERE key = %s)""",
                    [key],
                )
        _tell_engines()
    return changed


def _tell_engines() -> None:
    with connection.cursor() as cursor:
        for channel in (wake.PATHS, wake.LANES):
            cursor.execute(wake.RING, [channel])
