"""The operators' rules about replies, as an engine asks them: read when they have changed, whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog

from delivery.core.live_rules import MAX_RULES, Draft, LiveRule, LiveRules, RuleFault, compile_rule

log = structlog.get_logger(__name__)

Connection = psycopg.AsyncConnection[Any]


class RuleHits:
    """How often each of the operators' rules decided; counted in memory and written with the sweep."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()

    def note(self, name: str) -> None:
        self._counted[name] += 1

    async def write(self, connection: Connection) -> None:
        """Add what was counted since the last time; on failure it is counted on."""
        if not self._counted:
            return
        counted, self._counted = self._counted, Counter()
        try:
            await connection.execute(_ADD_HITS, [list(counted), list(counted.values())])
        except psycopg.Error:
            self._counted.update(counted)
            raise


# Locked in order, so that two engines never wait in a circle.
_ADD_HITS = """
UPDATE delivery_replyrule AS rule SET hits = rule.hits + hit.count, last_hit_at = now()
FROM unnest(%s::text[], %s::bigint[]) AS hit (name, count),
     (SELECT id, name FROM delivery_replyrule ORDER BY id FOR UPDATE) AS locked
WHERE rule.name = hit.name AND locked.id = rule.id
"""
_IN_FORCE = """
SELECT name, groups, phases, codes, enhanced, text, reply_class, action, scope, sample, note FROM delivery_replyrule
WHERE is_enabled AND removed_at IS NULL ORDER BY position, id LIMIT %s
"""


async def refreshed(connection: Connection, present: LiveRules) -> LiveRules:
    """The rules in force; the very same object where nothing has changed, with all that it remembers."""
    rows = await (await connection.execute(_IN_FORCE, [MAX_RULES])).fetchall()
    drafts = [_draft(row) for row in rows]
    if drafts == [rule.draft for rule in present.rules]:
        return present
    log.info("reply_rules_changed", count=len(drafts))
    return LiveRules(tuple(_compiled(drafts)))


def _draft(row: tuple[Any, ...]) -> Draft:
    name, groups, phases, codes, enhanced, *rest = row
    return Draft(name, tuple(groups), tuple(phases), tuple(codes), tuple(enhanced), *rest)


def _compiled(drafts: Iterable[Draft]) -> Iterable[LiveRule]:
    for draft in drafts:
        try:
            yield compile_rule(draft)
        except RuleFault as fault:
            # It was checked when it was saved; a rule that a newer release does not know any more stops no mail.
            log.error("reply_rule_unusable", rule=draft.name, fault=str(fault))
