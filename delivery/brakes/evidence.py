"""What a brake was pulled for, as it is shown to the tenant and to the operator: numbers, window, classes, samples.

Samples name recipients by key, domain and reply: the tenant's pages lead from there to the mail, the operator's show no
address of anybody. Receiving servers like to repeat the address in their reply, so operators read it without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts.identifiers import first_of
from delivery.brakes.levels import Finding
from delivery.brakes.pulling import Owner

_SAMPLES = 5
_CLASSES = 6
# Of those that failed last: enough to say why, few enough to be read in a moment.
_LOOKED_AT = 1000
# What failed in a window may have been accepted long before it.
_LONGEST_OPEN = timedelta(days=7)
# Wider than RFC 5321 §4.1.2 has it, also quoted local parts and signs that were encoded: rather a word too many is hidden.
_LOCAL_PART = r"""(?:"[^"]*"|[^\s<>()\[\]{}:;,"'=]+)"""
_AT = r"\s?(?:@|＠|%40)\s?"
_DOMAIN = r"""(?:\[[^\]\s]*\]?|[^\s<>()\[\]{}:;,"'/]+)"""
_ADDRESS = re.compile(_LOCAL_PART + _AT + _DOMAIN)
_MASK = "***"


def of(owner: Owner, finding: Finding, *, since: datetime, group: str = "") -> dict[str, Any]:
    failed = [] if finding.rule.counts == "accepted" else _failed(owner, since=since, group=group)
    classes: dict[str, int] = {}
    for *_sample, reply_class, _reply, _address in failed:
        classes[reply_class] = classes.get(reply_class, 0) + 1
    return {
        "bad": finding.count.bad,
        "total": finding.count.total,
        "percent": round(100 * finding.share, 2),
        "threshold_percent": round(100 * finding.threshold, 2),
        "fewest": finding.rule.fewest,
        "counts": finding.rule.counts,
        "since": since.isoformat(),
        "until": timezone.now().isoformat(),
        **({"group": group} if group else {}),
        "classes": sorted(classes.items(), key=lambda one: -one[1])[:_CLASSES],
        "samples": [
            {
                "recipient": str(key),
                "message": str(message),
                "domain": domain,
                "class": reply_class,
                "reply": reply[:200],
                "masked_reply": mask(reply, address)[:200],
            }
            for key, message, domain, reply_class, reply, address in failed[:_SAMPLES]
        ],
    }


def mask(reply: str, address: str = "") -> str:
    """A reply without anybody's address, and without the local part of ``address`` where it stands alone."""
    masked = _ADDRESS.sub(_MASK, reply)
    local_part = address.rpartition("@")[0]
    if local_part:
        masked = re.sub(rf"(?<!\w){re.escape(local_part)}(?!\w)", _MASK, masked, flags=re.IGNORECASE)
    return masked


def without_addresses(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """As operators see it: samples by domain, class and masked reply, without keys that lead to the mail."""
    if "samples" not in evidence:
        return dict(evidence)
    samples = [
        # Brakes from before replies were kept masked have the reply alone.
        {"domain": one["domain"], "class": one["class"], "reply": one.get("masked_reply", mask(one["reply"]))}
        for one in evidence["samples"]
    ]
    return {**evidence, "samples": samples}


_FAILED = """
SELECT recipient.id, recipient.message_id, recipient.domain, recipient.reply_class, recipient.reply,
    recipient.address
FROM (SELECT * FROM delivery_recipient WHERE tenant_id = %(tenant)s AND state = 'bounced' AND id >= %(first)s
      ORDER BY id DESC LIMIT %(most)s) AS recipient
JOIN delivery_message AS message ON message.id = recipient.message_id
LEFT JOIN delivery_providergroup AS grp ON grp.id = recipient.group_id
WHERE recipient.state_since >= %(since)s AND (%(credential)s::uuid IS NULL OR message.credential_id = %(credential)s)
  AND (%(group)s = '' OR grp.key = %(group)s)
ORDER BY recipient.id DESC
"""


def _failed(owner: Owner, *, since: datetime, group: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            _FAILED,
            {
                "tenant": owner.tenant.pk, "credential": owner.credential_id, "group": group, "most": _LOOKED_AT,
                "since": since, "first": first_of(since - _LONGEST_OPEN),
            },
        )  # fmt: skip
        return list(cursor.fetchall())
