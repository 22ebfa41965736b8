"""doctor"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator

import click
from django.conf import settings
from django.core import checks
from django.db import connection

from delivery import domains
from delivery.dns import DnsFailure, Resolver
from delivery.models import DkimKeyState, DomainState, Node, SourceAddress, SourceCheckState, SourceState
from delivery.source_checks import checks as source_checks
from relayweb.commandline import output
from relayweb.commandline.verbs import Verb
from relayweb.health import examine
from relayweb.processes import environment

_LEAST_FREE_BYTES = 2 << 30
_DNS_TIMEOUT_S = 3.0

Finding = tuple[str, bool, str]  # what was looked at, whether it is well, what was seen

_PARTS = {
    "database": "the database cannot be reached",
    "migrations": "migrations are missing: relay database migrate",
    "durability": "fsync, synchronous_commit and full_page_writes must be on: mail could be lost",
    "broker": "the broker does not answer; mail flows, periodic work does not",
    "gate": "no gate answers, so nothing can be handed over: start script/server",
    "worker": "no delivery worker is alive, so nothing leaves: start script/server",
}


@click.command("doctor", cls=Verb)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look at settings, database, broker, gates, workers, DNS, sources, own domains and disk.

    Exit code 1 on trouble.
    """
    findings = list(_examine())
    is_well = all(is_ok for _name, is_ok, _seen in findings)
    if output.is_json():
        checked = [{"name": name, "ok": is_ok, "sentence": seen} for name, is_ok, seen in findings]
        output.write({"ok": is_well, "checks": checked})
    else:
        output.table(("what", "ok", "seen"), [[name, is_ok, seen] for name, is_ok, seen in findings])
    if not is_well:
        ctx.exit(1)


def _examine() -> Iterator[Finding]:
    yield from _settings()
    health = examine()
    for name, is_ok in health.parts.items():
        yield name, is_ok, "ok" if is_ok else _PARTS.get(name, "failed")
    if health.parts.get("migrations"):
        yield from _rows()
    yield _name_server()
    yield _disk()


def _settings() -> Iterator[Finding]:
    faults = checks.run_checks(tags=[checks.Tags.security])
    serious = [fault for fault in faults if fault.level >= checks.ERROR]
    yield "settings", not serious, "; ".join(str(fault.msg) for fault in serious) or f"profile {settings.PROFILE}"
    for name, purpose in (("SECRET_KEY", "sessions and links"), ("ENCRYPTION_KEYS", "sealing DKIM keys")):
        is_given = environment.is_given(name)
        yield name.lower(), is_given, "set" if is_given else f"RELAY_{name} is not set; it is needed for {purpose}"


def _rows() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname ~ '^delivery_message_p[0-9]+$'")
        days = cursor.fetchone()[0]
    yield "partitions", days >= 2, f"{days} day partitions of delivery_message"
    active = SourceAddress.objects.filter(state=SourceState.ACTIVE)
    here = active.filter(node=settings.NODE).count()
    nodes = Node.objects.count()
    seen = f"{active.count()} on {nodes} nodes, {here} of them on {settings.NODE}"
    yield "sources", here > 0, seen if here else f"none on {settings.NODE}: relay source add --address …"
    for check in source_checks.latest_of_all():
        bad = [result["detail"] for result in check.results if result["verdict"] == "bad"]
        yield f"source {check.source}", check.state != SourceCheckState.BAD, "; ".join(bad) or check.state
    own = {domain.name: domain for domain in domains.list_domains() if domain.tenant.is_system}
    for name in domains.own_domain_names():
        is_ok = name in own and own[name].state == DomainState.VERIFIED
        yield f"own domain {name}", is_ok, "ok" if is_ok else "the service cannot write from it: relay database migrate"
    if settings.FEEDBACK_DOMAIN:
        yield _feedback_domain()


def _feedback_domain() -> Finding:
    """Mail gets the second signature only once receivers can find its key."""
    name = f"feedback domain {settings.FEEDBACK_DOMAIN}"
    domain = domains.feedback_domain()
    if domain is None:
        return name, False, "it was not added yet: relay database migrate"
    signing = domain.dkim_keys.filter(state=DkimKeyState.SIGNING).first()
    if domain.state == DomainState.VERIFIED and domain.signs and signing is not None:
        return name, True, f"mail is signed with {signing.selector}._domainkey.{domain.name}"
    missing = [record for record in domains.records_of(domain) if record.purpose in {"ownership", "dkim"}]
    wanted = "; ".join(f"{record.type} {record.name} = {record.value}" for record in missing if not record.ok)
    return name, False, f"nothing is signed with it until these records are published: {wanted}"


def _name_server() -> Finding:
    server = str(settings.DNS) if settings.DNS else "the system's"
    try:
        asyncio.run(_ask())
    except DnsFailure as failure:
        if failure.is_transient:
            return "dns", False, f"the name server ({server}) does not answer: {failure.kind.value}"
    return "dns", True, f"the name server ({server}) answers"


async def _ask() -> None:
    nameserver = (settings.DNS.host, settings.DNS.port) if settings.DNS else None
    await Resolver(nameserver, _DNS_TIMEOUT_S).mx(settings.BOUNCE_DOMAIN)


def _disk() -> Finding:
    folder = settings.VAR if settings.VAR.exists() else settings.BASE_DIR
    usage = shutil.disk_usage(folder)
    is_ok = usage.free >= _LEAST_FREE_BYTES
    return "disk", is_ok, f"{usage.free / (1 << 30):.1f} GiB free for {folder}"
