"""The bell of the callers: a NOTIFY, rung by the triggers that note events and by people who change a webhook."""

from __future__ import annotations

from django.db import connection

CHANNEL = "relay_webhooks"  # also written in the triggers of the migration


def ring() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
