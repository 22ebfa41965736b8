"""What the send log is narrowed to, as values, as JSON for a job, and as a condition of SQL.

The condition names recipients as `r`. What is asked of the message goes into one subquery over the same range of keys: a
message and its recipients share the time in their keys, so a period bounds the partitions of both.
"""

from __future__ import annotations

import contextlib
import unicodedata
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from accounts.identifiers import first_of
from accounts.models import Tenant
from delivery.core.mailbox import MailboxSyntaxError, parse_domain, parse_mailbox
from delivery.core.states import FINAL, RecipientState
from delivery.models import GroupKind, ProviderGroup

# Mail accepted so long before may be settled, or come back, in a period.
LONGEST_OPEN = timedelta(days=31)
OTHER_PROVIDERS = "other"


# A recipient has the time of its message, 48 bits of UUIDv7, in its key. Told so, the database looks for a message's recipients
# in the one partition where they can be instead of in every day of the period.
_OF_ONE_MILLISECOND = """r.id >= (left(m.id::text, 13) || '-0000-0000-000000000000')::uuid
                        AND r.id <= (left(m.id::text, 13) || '-ffff-ffff-ffffffffffff')::uuid"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What a list is narrowed to: criteria combine with AND, the values of one with OR. Empty means everything.

    The period is that of acceptance by us, or with ``by_outcome`` that of what happened: the final state, or for what came
    back and what was complained about that report. ``providers`` are keys of provider groups or OTHER_PROVIDERS.
    """

    states: frozenset[RecipientState] = frozenset()
    classes: frozenset[str] = frozenset()
    recipient: str = ""  # a mailbox, a domain, or a part of an address
    since: datetime | None = None
    until: datetime | None = None
    by_outcome: bool = False
    providers: frozenset[str] = frozenset()
    author: str = ""  # a mailbox, a domain, or a part of an address
    author_within: str = ""  # a domain and what is below it: all that a credential may see
    subject: str = ""  # words that all stand in it
    tag: str = ""
    credential: UUID | None = None
    stream: UUID | None = None
    header_message_id: str = ""
    min_attempts: int = 0
    was_put_off: bool = False
    is_returned: bool = False
    is_ambiguous: bool = False
    is_complained: bool = False

    @property
    def is_narrow(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self) if one.name not in {"since", "until", "by_outcome"})

    @property
    def asks_of_the_message(self) -> bool:
        asked = (self.author, self.author_within, self.subject, self.tag, self.credential, self.stream)
        return any(asked) or bool(self.header_message_id)

    @property
    def has_no_order(self) -> bool:
        """No index gives what is found newest first: a long period is then looked through in pieces."""
        return bool(self.asks_of_the_message or self.classes or self.was_put_off or self.by_outcome)


def as_json(narrowed: LogFilter) -> dict[str, Any]:
    """For a job: only what is set, in the words of JSON."""
    document: dict[str, Any] = {}
    for one in fields(narrowed):
        value = getattr(narrowed, one.name)
        match value:
            case None | "" | 0 | False:
                continue
            case frozenset():
                if value:
                    document[one.name] = sorted(value)
            case datetime():
                document[one.name] = value.isoformat()
            case UUID():
                document[one.name] = str(value)
            case _:
                document[one.name] = value
    return document


def from_json(document: dict[str, Any]) -> LogFilter:
    """What `as_json` made."""
    read: dict[str, Any] = dict(document)
    for name in ("since", "until"):
        if name in read:
            read[name] = datetime.fromisoformat(read[name])
    for name in ("credential", "stream"):
        if name in read:
            read[name] = UUID(read[name])
    for name in ("classes", "providers"):
        if name in read:
            read[name] = frozenset(read[name])
    if "states" in read:
        read["states"] = frozenset(RecipientState(state) for state in read["states"])
    return LogFilter(**read)


class Condition:
    """SQL and its values, grown side by side."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: list[Any] = []

    def add(self, sql: str, *values: Any) -> None:
        self.parts.append(sql)
        self.values += values

    @property
    def sql(self) -> str:
        return " AND ".join(self.parts)


def condition(tenant: Tenant, narrowed: LogFilter) -> Condition:
    """On `delivery_recipient AS r`, the tenant first."""
    found = Condition()
    found.add("r.tenant_id = %s", tenant.pk)
    first, last = _keys(narrowed)
    _between(found, "r.id", first, last)
    if narrowed.by_outcome:
        _happened(found, tenant, narrowed)
    if narrowed.states:
        found.add("r.state = ANY(%s)", [state.value for state in sorted(narrowed.states)])
    if narrowed.classes:
        # What was reported back later counts as the reason too, so that "mailbox full" finds both. The inequalities are those
        # of the partial indexes.
        classes = sorted(narrowed.classes)
        found.add(
            "((r.reply_class <> '' AND r.reply_class = ANY(%s)) OR (r.returned_class <> '' AND r.returned_class = ANY(%s)))",
            classes,
            classes,
        )
    if narrowed.recipient:
        _address(found, narrowed.recipient, "r.address", "r.domain")
    if narrowed.providers:
        _providers(found, narrowed.providers)
    if narrowed.min_attempts:
        found.add("r.attempts >= %s", narrowed.min_attempts)
        if narrowed.min_attempts > 1:
            found.add("r.attempts > 1")
    if narrowed.was_put_off:
        decided = [RecipientState.DELIVERED.value, RecipientState.BOUNCED.value, RecipientState.EXPIRED.value]
        found.add("(r.attempts > 1 OR (r.attempts = 1 AND r.state <> ALL(%s)))", decided)
    if narrowed.is_returned:
        found.add("r.returned_class <> ''")
    if narrowed.is_ambiguous:
        found.add("r.has_ambiguous_attempt")
    if narrowed.is_complained and not narrowed.by_outcome:
        found.add("r.id IN (SELECT recipient_id FROM delivery_complaint WHERE tenant_id = %s)", tenant.pk)
    if narrowed.asks_of_the_message:
        asked = _of_the_message(tenant, narrowed, first, last)
        found.add(
            f"""EXISTS (SELECT 1 FROM delivery_message AS m
                        WHERE m.id = r.message_id AND {_OF_ONE_MILLISECOND} AND {asked.sql})""",
            *asked.values,
        )
    return found


def _keys(narrowed: LogFilter) -> tuple[UUID | None, UUID | None]:
    since, until = narrowed.since, narrowed.until
    if narrowed.by_outcome and since is not None:
        since -= LONGEST_OPEN
    # Nothing is accepted in the future; without a bound the partitions made ahead would be looked at too.
    until = until or datetime.now(tz=UTC) + timedelta(days=1)
    return (None if since is None else first_of(since)), first_of(until)


def _between(found: Condition, column: str, first: UUID | None, last: UUID | None) -> None:
    if first is not None:
        found.add(f"{column} >= %s", first)
    if last is not None:
        found.add(f"{column} < %s", last)


def _happened(found: Condition, tenant: Tenant, narrowed: LogFilter) -> None:
    """In the period, whenever it was accepted."""
    period = "true"
    values: list[Any] = []
    if narrowed.since is not None:
        period, values = f"{period} AND {{0}} >= %s", [*values, narrowed.since]
    if narrowed.until is not None:
        period, values = f"{period} AND {{0}} < %s", [*values, narrowed.until]
    if narrowed.is_complained:
        within = period.format("received_at")
        found.add(
            f"r.id IN (SELECT recipient_id FROM delivery_complaint WHERE tenant_id = %s AND {within})",
            tenant.pk,
            *values,
        )
    elif narrowed.is_returned:
        found.add(period.format("r.returned_at"), *values)
    else:
        found.add(period.format("r.state_since"), *values)
        if not narrowed.states:
            found.add("r.state = ANY(%s)", sorted(state.value for state in FINAL))


def _providers(found: Condition, providers: frozenset[str]) -> None:
    groups = dict(ProviderGroup.objects.filter(kind=GroupKind.PROVIDER).values_list("key", "id"))
    chosen = [groups[key] for key in providers if key in groups]
    if OTHER_PROVIDERS in providers:
        others = [group for key, group in groups.items() if key not in providers]
        found.add("(r.group_id IS NULL OR r.group_id <> ALL(%s::bigint[]))", others)
    else:
        found.add("r.group_id = ANY(%s::bigint[])", chosen)


def _of_the_message(tenant: Tenant, narrowed: LogFilter, first: UUID | None, last: UUID | None) -> Condition:
    asked = Condition()
    asked.add("m.tenant_id = %s", tenant.pk)
    _between(asked, "m.id", first, last)
    if narrowed.author:
        _address(asked, narrowed.author, "m.author", "m.author_domain")
    if narrowed.author_within:
        asked.add(
            "(m.author_domain = %s OR m.author_domain LIKE %s)",
            narrowed.author_within,
            f"%.{_literal(narrowed.author_within)}",
        )
    for word in fold(narrowed.subject).split():
        # The first finds candidates through the index, the second looks at what was meant.
        if len(word) > 1:
            asked.add(
                "m.subject <> '' AND subject_keys(m.tenant_id, m.subject) @> subject_keys(%s, %s)", tenant.pk, word
            )
        asked.add("folded(m.subject) LIKE %s", f"%{_literal(word)}%")
    if narrowed.tag:
        asked.add(
            "m.tags <> '{}' AND tag_keys(m.tenant_id, m.tags) @> tag_keys(%s, ARRAY[%s]::varchar[])",
            tenant.pk,
            narrowed.tag,
        )
        asked.add("%s = ANY(m.tags)", narrowed.tag)
    if narrowed.credential is not None:
        asked.add("m.credential_id = %s", narrowed.credential)
    if narrowed.stream is not None:
        asked.add("m.stream_id = %s", narrowed.stream)
    if narrowed.header_message_id:
        bare = narrowed.header_message_id.strip().strip("<>")
        asked.add("m.header_message_id = ANY(%s)", [bare, f"<{bare}>"])
    return asked


def fold(text: str) -> str:
    """As the database's `folded`: compatible characters are one, and so are capital and small letters."""
    return unicodedata.normalize("NFKC", text).lower().strip()


def _address(found: Condition, searched: str, address: str, domain: str) -> None:
    """A whole mailbox and a whole domain are found through their indexes; anything else is a part of the address."""
    text = unicodedata.normalize("NFKC", searched).strip().removeprefix("mailto:").strip("<>").strip()
    if "@" in text.lstrip("@"):
        with contextlib.suppress(MailboxSyntaxError):
            if "." in text.rpartition("@")[2]:
                whole = parse_mailbox(text).address
                found.add(f"{address} = ANY(%s)", sorted({whole, whole.lower()}))
                return
    elif "." in text:
        with contextlib.suppress(MailboxSyntaxError):
            found.add(f"{domain} = %s", parse_domain(text.lstrip("@")))
            return
    found.add(f"{address} ILIKE %s", f"%{_literal(text)}%")


def _literal(text: str) -> str:
    """For LIKE: every character stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
