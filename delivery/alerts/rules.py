"""Looks whether something is wrong that operators must know of. Changes nothing; what cannot be looked at says nothing."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from django.conf import settings
from django.db import connection, transaction

from delivery import operations
from delivery.acceptance.store import Durability
from delivery.domain_blocklists import checks as domain_list_checks
from delivery.models import Brake, SourceAddress, SourceState, Worker
from delivery.source_checks import checks

log = structlog.get_logger(__name__)

_DATA = Path(__file__).with_name("rules.toml")
_GONE_AFTER = timedelta(days=1)
_RUNBOOKS = "docs/runbooks.md"


@dataclass(frozen=True, slots=True)
class Rule:
    """See rules.toml for what the numbers mean."""

    kind: str
    severity: str
    opens_after: timedelta
    closes_after: timedelta
    threshold: float | None
    runbook: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule sees now, by subject with its evidence; ``is_known`` is False of subjects that it could not look at."""

    by_subject: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_known: Callable[[str], bool] = lambda _subject: True


@cache
def rules() -> Mapping[str, Rule]:
    """By kind, with the thresholds of this installation. Raises ValueError where RELAY_ALERT_THRESHOLDS cannot be read."""
    data = tomllib.loads(_DATA.read_text(encoding="utf-8"))
    chosen = dict(_threshold(word, data) for word in settings.ALERT_THRESHOLDS)
    return {
        kind: Rule(
            kind,
            one["severity"],
            timedelta(seconds=one["opens_after"]),
            timedelta(seconds=one["closes_after"]),
            chosen.get(kind, one.get("threshold")),
            f"{_RUNBOOKS}#{one['runbook']}",
        )
        for kind, one in data.items()
    }


def _threshold(word: str, data: Mapping[str, Any]) -> tuple[str, float]:
    name, _equals, number = word.partition("=")
    known = [kind for kind, one in data.items() if "threshold" in one]
    if name.strip() not in known:
        raise ValueError(f"{name.strip()!r} is none of {', '.join(known)}")
    value = float(number)
    if not 0 <= value < 10_000_000:
        raise ValueError(f"{number!r} is no threshold")
    return name.strip(), value


def look(*, now: datetime) -> dict[str, Found]:
    """What every rule finds; one that breaks is left out, so that it neither opens nor closes anything."""
    found = {}
    for kind, sense in _SENSES.items():
        try:
            with transaction.atomic():
                found[kind] = sense(rules()[kind], now)
        except Exception:
            log.exception("alert_rule_broke", rule=kind)
    return found


# ---------------------------------------------------------------- one rule each


def _blocklisted(_rule: Rule, _now: datetime) -> Found:
    found: dict[str, Mapping[str, Any]] = {}
    unknown = set()
    for check in checks.latest_of_all():
        for result in check.results:
            if not result["check"].startswith("blocklist:"):
                continue
            subject = f"{check.source} {result['check'].partition(':')[2]}"
            if result["verdict"] == "failed":
                unknown.add(subject)
            elif result["verdict"] == "bad" and result["severity"] != "minor":
                found[subject] = {"source": str(check.source), "detail": result["detail"], "look_up": result["look_up"]}
    return Found(found, lambda subject: subject not in unknown)


def _domain_blocklisted(_rule: Rule, _now: datetime) -> Found:
    found: dict[str, Mapping[str, Any]] = {}
    unknown = set()
    for check in domain_list_checks.latest_of_all():
        for result in check.results:
            subject = f"{check.domain.name} {result['check'].partition(':')[2]}"
            if result["verdict"] == "failed":
                unknown.add(subject)
            elif result["verdict"] == "bad" and result["severity"] != "minor":
                found[subject] = {
                    "domain": check.domain.name,
                    "name": check.domain.tenant.name,
                    "detail": result["detail"],
                    "look_up": result["look_up"],
                }
    return Found(found, lambda subject: subject not in unknown)


def _reverse_dns(_rule: Rule, _now: datetime) -> Found:
    return _of_check("reverse_dns")


def _closed_outwards(_rule: Rule, _now: datetime) -> Found:
    return _of_check("port_25")


def _of_check(name: str) -> Found:
    """The addresses at which the last look found something bad; where it could not be made, nothing is known."""
    found: dict[str, Mapping[str, Any]] = {}
    unknown = set()
    for check in checks.latest_of_all():
        for result in check.results:
            if result["check"] == name and result["verdict"] == "failed":
                unknown.add(str(check.source))
            elif result["check"] == name and result["verdict"] == "bad":
                found[str(check.source)] = {"source": str(check.source), "detail": result["detail"]}
    return Found(found, lambda subject: subject not in unknown)


def _returns_tls(_rule: Rule, _now: datetime) -> Found:
    """One for the installation, by the newest look at any address."""
    newest = max(checks.latest_of_all(), key=lambda check: check.checked_at, default=None)
    own = [one for one in newest.results if one["check"] == "returns_tls"] if newest else []
    bad = next((one["detail"] for one in own if one["verdict"] == "bad"), None)
    is_known = all(one["verdict"] != "failed" for one in own)
    return Found({} if bad is None else {settings.HOSTNAME: {"detail": bad}}, lambda _subject: is_known)


def _source_unusable(_rule: Rule, _now: datetime) -> Found:
    unusable = SourceAddress.objects.filter(state=SourceState.UNUSABLE)
    return Found({str(one): {"source": str(one), "detail": one.state_reason, "node": one.node_id} for one in unusable})


def _queue_age(rule: Rule, _now: datetime) -> Found:
    waited = operations.longest_overdue()
    if waited is None or waited.total_seconds() <= _limit(rule):
        return Found()
    return Found({"": {"seconds": round(waited.total_seconds())}})


def _worker_silent(rule: Rule, now: datetime) -> Found:
    silent = Worker.objects.filter(
        heartbeat_at__lt=now - timedelta(seconds=_limit(rule)), heartbeat_at__gt=now - _GONE_AFTER
    )
    return Found({one.slot: {"part": one.part, "since": one.heartbeat_at.isoformat()} for one in silent})


def _node_silent(rule: Rule, now: datetime) -> Found:
    alive = Worker.objects.filter(part="worker", heartbeat_at__gte=now - timedelta(seconds=_limit(rule)))
    used = SourceAddress.objects.filter(state=SourceState.ACTIVE, node__is_draining=False)
    silent = used.exclude(node__in=alive.values("node")).values_list("node_id", flat=True).distinct()
    return Found({name: {"addresses": used.filter(node_id=name).count()} for name in silent})


def _database_unsafe(_rule: Rule, _now: datetime) -> Found:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"
        )
        durability = Durability(*cursor.fetchone())
    if durability.is_safe:
        return Found()
    names = ("fsync", "synchronous_commit", "full_page_writes")
    return Found({"": {"detail": ", ".join(f"{name}={getattr(durability, name)}" for name in names)}})


def _disk(rule: Rule, _now: datetime) -> Found:
    usage = shutil.disk_usage(settings.VAR)
    free = 100 * usage.free / usage.total
    is_mine = _of_this_node()
    if free >= _limit(rule):
        return Found({}, is_mine)
    return Found({settings.NODE: {"percent": round(free, 1), "free_bytes": usage.free}}, is_mine)


def _certificate(rule: Rule, now: datetime) -> Found:
    is_mine = _of_this_node()
    if not settings.TLS_CERT:
        return Found({}, is_mine)
    certificate = x509.load_pem_x509_certificate(Path(settings.TLS_CERT).read_bytes())
    ends_at = certificate.not_valid_after_utc
    days = (ends_at - now.astimezone(UTC)) / timedelta(days=1)
    if days >= _limit(rule):
        return Found({}, is_mine)
    return Found({settings.NODE: {"days": int(days), "ends_at": ends_at.isoformat()}}, is_mine)


def _of_this_node() -> Callable[[str], bool]:
    """A disk and a certificate are of the node that looks; it says nothing about others'."""
    return lambda subject: subject == settings.NODE


def _limit(rule: Rule) -> float:
    assert rule.threshold is not None
    return rule.threshold


def _brake(_rule: Rule, _now: datetime) -> Found:
    pulled = Brake.objects.filter(ended_at=None).select_related("tenant")
    return Found(
        {
            str(one.pk): {
                "name": one.tenant.name if not one.credential_name else f"{one.tenant.name}: {one.credential_name}",
                "rule": one.rule,
                "since": one.pulled_at.isoformat(),
            }
            for one in pulled
        }
    )


_SENSES: Mapping[str, Callable[[Rule, datetime], Found]] = {
    "blocklisted": _blocklisted,
    "domain_blocklisted": _domain_blocklisted,
    "reverse_dns": _reverse_dns,
    "closed_outwards": _closed_outwards,
    "returns_tls": _returns_tls,
    "source_unusable": _source_unusable,
    "queue_age": _queue_age,
    "worker_silent": _worker_silent,
    "node_silent": _node_silent,
    "database_unsafe": _database_unsafe,
    "disk": _disk,
    "certificate": _certificate,
    "brake": _brake,
}
KINDS = frozenset(_SENSES)
