"""doctor"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.core import checks
from django.db import connection

from delivery import content_store, domain_records, domains, keys
from delivery.dns import DnsFailure, Resolver
from delivery.models import DkimKeyState, DomainState, Node, SourceAddress, SourceCheckState, SourceState
from delivery.source_checks import checks as source_checks
from relayweb import own_records
from relayweb.commandline import output
from relayweb.commandline.verbs import Verb
from relayweb.health import examine
from relayweb.processes import database_roles, environment

_LEAST_FREE_BYTES = 2 << 30
_DNS_TIMEOUT_S = 3.0
_CONNECT_TIMEOUT_S = 5.0
_MOST_APART_S = 2.0
_RENEW_WITHIN = timedelta(days=14)
# Any receiver that always listens; only a connection is opened.
_REACHABLE_DOMAIN = "gmail.com"

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
    """Look at settings, database, broker, gates, workers, certificate, clock, DNS, sources, own domains, object store, disk.

    What is not well is followed by what to do about it.

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
    if health.parts["database"]:
        yield _clock()
        yield _roles()
    if settings.TLS_CERT:
        yield _certificate()
    name_server = _name_server()
    yield name_server
    if name_server[1] and not settings.DEVELOPMENT:
        yield from _own_records()
    if content_store.is_used():
        yield _object_store()
    if not settings.TEST_PROFILE:
        yield _way_out()
    yield _disk()


def _settings() -> Iterator[Finding]:
    faults = checks.run_checks(tags=[checks.Tags.security])
    serious = [fault for fault in faults if fault.level >= checks.ERROR]
    yield (
        "settings",
        not serious,
        "; ".join(f"{fault.msg} {fault.hint or ''}".strip() for fault in serious) or f"profile {settings.PROFILE}",
    )
    for name, purpose in (("SECRET_KEY", "sessions and links"), ("ENCRYPTION_KEYS", "sealing DKIM keys")):
        is_given = environment.is_given(name)
        yield name.lower(), is_given, "set" if is_given else f"RELAY_{name} is not set; it is needed for {purpose}"


def _sealed() -> Finding:
    """Whether everything sealed can be opened, and whether a former key is still needed for that."""
    used, named = keys.used_key_ids(), list(settings.ENCRYPTION_KEYS)
    if missing := sorted(used - set(named)):
        listed = ", ".join(missing)
        return "sealed secrets", False, f"sealed with {listed}: RELAY_ENCRYPTION_KEYS must name it, or they are lost"
    if former := sorted(used - set(named[:1])):
        return "sealed secrets", True, f"some still with {', '.join(former)}: relay key rotate"
    return "sealed secrets", True, "all with the current key"


def _roles() -> Finding:
    """Whether each part is connected with a role of its own."""
    existing = database_roles.existing()
    connected = database_roles.who_is_connected()
    if not existing:
        role = connection.settings_dict["USER"] or "the owner"
        seen = f"every part connects as {role}, who may do everything: relay database roles"
        # The embedded database is reached by this machine's own user alone, and roles are the operator's choice.
        return "database roles", True, seen
    others = sorted(
        f"{part} as {role}" for part, roles in connected.items() for role in roles - {database_roles.role_of(part)}
    )
    if others:
        return "database roles", False, f"{', '.join(others)}: give RELAY_DATABASE_URL_{others[0].split()[0].upper()}"
    if undeclared := database_roles.undeclared_tables():
        return "database roles", False, f"no part may use {', '.join(undeclared)}: relay database migrate"
    return "database roles", True, f"{', '.join(sorted(connected)) or 'nobody'} connected, each as its own"


def _rows() -> Iterator[Finding]:
    yield _sealed()
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


def _object_store() -> Finding:
    """Whether an object can be written, read and deleted."""
    try:
        content_store.probe()
    except (content_store.StoreTrouble, content_store.ContentUnreadable) as error:
        return "object store", False, f"large mail is put off with 451: {error}"
    return "object store", True, f"writes, reads and deletes in {settings.OBJECT_STORE}"


def _feedback_domain() -> Finding:
    """Mail gets the second signature only once receivers can find its key."""
    name = f"feedback domain {settings.FEEDBACK_DOMAIN}"
    domain = domains.feedback_domain()
    if domain is None:
        return name, False, "it was not added yet: relay database migrate"
    signing = domain.dkim_keys.filter(state=DkimKeyState.SIGNING).first()
    if domain.state == DomainState.VERIFIED and domain.signs and signing is not None:
        return name, True, f"mail is signed with {signing.selector}._domainkey.{domain.name}"
    missing = [record for record in domain_records.records_of(domain) if record.purpose in {"ownership", "dkim"}]
    wanted = "; ".join(f"{record.type} {record.name} = {record.value}" for record in missing if not record.ok)
    return name, False, f"nothing is signed with it until these records are published: {wanted}"


def _name_server() -> Finding:
    server = str(settings.DNS) if settings.DNS else "the system's"
    try:
        asyncio.run(_ask())
    except DnsFailure as failure:
        if failure.is_transient:
            return "dns", False, f"the name server ({server}) does not answer ({failure.kind.value}): set RELAY_DNS"
    return "dns", True, f"the name server ({server}) answers"


async def _ask() -> None:
    await _resolver().mx(settings.BOUNCE_DOMAIN)


def _own_records() -> Iterator[Finding]:
    names = own_records.OwnNames(settings.HOSTNAME, settings.BOUNCE_DOMAIN, tuple(domains.own_domain_names()))
    for seen in asyncio.run(own_records.look(names, _resolver())):
        yield seen.name, seen.is_ok, seen.sentence


def _way_out() -> Finding:
    """Hosting providers block port 25 outwards for new customers; then every attempt ends in a time-out."""
    try:
        host = asyncio.run(_resolver().mx(_REACHABLE_DOMAIN))[0].host
        with socket.create_connection((host, 25), timeout=_CONNECT_TIMEOUT_S):
            return "port 25 outwards", True, f"{host} answers"
    except (DnsFailure, IndexError) as failure:
        return "port 25 outwards", False, f"not tried: {_REACHABLE_DOMAIN} cannot be looked up ({failure})"
    except OSError as error:
        return "port 25 outwards", False, f"{host} cannot be reached ({error}): ask the hosting provider to open it"


def _clock() -> Finding:
    """Against the database's: leases, quotas and schedules are compared with its clock."""
    before = time.time()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        theirs = float(cursor.fetchone()[0])
    apart_s = theirs - (before + time.time()) / 2
    is_ok = abs(apart_s) <= _MOST_APART_S
    return "clock", is_ok, f"{apart_s:+.2f} s from the database's" + ("" if is_ok else ": run an NTP client on both")


def _certificate() -> Finding:
    """What is in the file, and whether the gates offer that one."""
    try:
        kept = x509.load_pem_x509_certificate(Path(settings.TLS_CERT).read_bytes())
    except (OSError, ValueError) as error:
        return "certificate", False, f"RELAY_TLS_CERT cannot be read: {error}"
    ends = kept.not_valid_after_utc
    left = ends - datetime.now(UTC)
    if left < _RENEW_WITHIN:
        return "certificate", False, f"it ends on {ends:%Y-%m-%d}: renew it, then send the gates SIGHUP"
    if not _is_for(kept, settings.HOSTNAME):
        return "certificate", False, f"it is not for {settings.HOSTNAME}: clients that check would refuse it"
    offered = _offered_certificate()
    if offered is not None and offered != kept.public_bytes(Encoding.DER):
        return "certificate", False, "the gates offer another one than the file has: send them SIGHUP"
    return "certificate", True, f"for {settings.HOSTNAME}, until {ends:%Y-%m-%d}"


def _is_for(certificate: x509.Certificate, hostname: str) -> bool:
    """RFC 6125 §6.4: the name itself, or a wildcard for its first label."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    names = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    return hostname.lower() in names or f"*.{hostname.partition('.')[2]}".lower() in names


def _offered_certificate() -> bytes | None:
    """By the first listener with implicit TLS; None where none can be asked."""
    if not settings.SUBMISSIONS_BIND:
        return None
    endpoint = settings.SUBMISSIONS_BIND[0]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104 - it is not bound here
    try:
        pem = ssl.get_server_certificate((host, endpoint.port), timeout=_CONNECT_TIMEOUT_S)
    except OSError:
        return None  # that no gate answers is said elsewhere
    return ssl.PEM_cert_to_DER_cert(pem)


def _resolver() -> Resolver:
    return Resolver((settings.DNS.host, settings.DNS.port) if settings.DNS else None, _DNS_TIMEOUT_S)


def _disk() -> Finding:
    folder = settings.VAR if settings.VAR.exists() else settings.BASE_DIR
    usage = shutil.disk_usage(folder)
    is_ok = usage.free >= _LEAST_FREE_BYTES
    advice = "" if is_ok else ": make room, or the database stops"
    return "disk", is_ok, f"{usage.free / (1 << 30):.1f} GiB free for {folder}{advice}"
