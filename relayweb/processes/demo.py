"""What development starts with: a demo tenant, an operator, a login, and a domain whose DNS the sandbox serves.

Made once. Secrets stand in ``$RELAY_VAR/demo.json`` (0600), so that every start prints the same; when the database
does not know them any more, everything is made anew. The demo domain is really verified, by asking the sandbox's name
server; one that does not answer in time costs nothing but that, since domains are looked at again by themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import credentials, operators, people, tenants
from accounts.audit import Actor
from accounts.models import Credential, Tenant, User
from accounts.refusals import NotFound, Refused
from delivery import domain_records, domain_watch, domains, sources
from delivery import tenants as delivery_tenants
from delivery.domain_checks import wanted_records
from delivery.models import DomainState, SendingDomain
from relayweb.processes import environment
from relayweb.processes.state import State, write_privately

DOMAIN = "demo.relay.test"
# Mail to these people is read in the sandbox's inbox.
OWNER, OPERATOR = "demo@inbox.sandbox.test", "operator@inbox.sandbox.test"
INBOX_HOST = "10 mx1.inbox.sandbox.test."
TRY_RECIPIENT = "accept@accept.sandbox.test"

_NAME_SERVER_WITHIN_S = 8.0
_MOST_DRAWS = 20
_VERIFIED_WITHIN_S = 8.0


@dataclass(frozen=True, slots=True)
class Demo:
    owner_password: str
    operator_password: str
    smtp_username: str
    smtp_secret: str
    api_key: str


def seed() -> None:
    """Makes what is missing and says on stdout how to log in, and a mail to try."""
    state = State.open()
    actor = Actor.system("demo")
    domains.ensure_own_domains(actor=actor)
    sources.ensure_default_source(actor=actor)
    demo = _known(state)
    if demo is None:
        demo = _make(actor)
        write_privately(_file(state), json.dumps(asdict(demo), indent=1) + "\n")
    _publish_and_verify(state, actor)
    print(_what_to_try(demo))


# ---------------------------------------------------------------- people, login, key


def _file(state: State) -> Path:
    return state.folder / "demo.json"


def _known(state: State) -> Demo | None:
    """What was made at an earlier start, if the database still knows all of it."""
    try:
        demo = Demo(**json.loads(_file(state).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    digest = hashlib.sha256(demo.smtp_secret.encode()).digest()
    is_there = (
        Credential.objects.filter(username=demo.smtp_username, secret_sha256=digest, revoked_at=None).exists()
        and User.objects.filter(email__in=[OWNER, OPERATOR]).count() == 2
    )
    return demo if is_there else None


@transaction.atomic
def _make(actor: Actor) -> Demo:
    tenant = _tenant(actor)
    owner_password = _let_in(OWNER)
    try:
        operators.create_operator(OPERATOR, actor=actor)
    except Refused as refusal:
        if refusal.reason != "already_operator":
            raise
    operator_password = _let_in(OPERATOR)
    login = credentials.issue_credential(tenant, kind="smtp", name="Demo", actor=actor)
    key = credentials.issue_credential(tenant, kind="api", name="Demo", actor=actor)
    return Demo(
        owner_password=owner_password,
        operator_password=operator_password,
        smtp_username=str(login.credential.username),
        smtp_secret=str(login.secret),
        api_key=credentials.api_key(key.credential, str(key.secret)),
    )


def _tenant(actor: Actor) -> Tenant:
    try:
        return tenants.find_tenant("demo")
    except NotFound:
        return delivery_tenants.open_tenant("Demo", owner_email=OWNER, actor=actor, slug="demo")[0]


def _let_in(email: str) -> str:
    """The password that was set."""
    user, _is_new = people.find_or_create_user(email)
    password = _set_random_password(user)
    User.objects.filter(pk=user.pk, email_confirmed_at=None).update(email_confirmed_at=timezone.now())
    return password


def _set_random_password(user: User) -> str:
    # Chance may draw one that has too many letters of the address, and that must not end anybody's first start.
    for _ in range(_MOST_DRAWS - 1):
        password = secrets.token_urlsafe(9)
        try:
            people.set_password(user, password)
        except Refused:
            continue
        return password
    password = secrets.token_urlsafe(32)
    people.set_password(user, password)
    return password


# ---------------------------------------------------------------- domain and DNS


def _publish_and_verify(state: State, actor: Actor) -> None:
    tenant = tenants.find_tenant("demo")
    has_sandbox = environment.sandbox_is_on() and settings.DNS is not None
    domain = SendingDomain.objects.of(tenant).filter(name=DOMAIN).exclude(state=DomainState.REMOVED).first()
    if domain is None:
        domain = domains.add_domain(tenant, DOMAIN, actor=actor, assume_verified=not has_sandbox)
    if not has_sandbox:
        return
    _write_zone(state, domain)
    if domain.state != DomainState.VERIFIED and _name_server_answers():
        _verify(domain, actor)


def _write_zone(state: State, demo: SendingDomain) -> None:
    """The records the sandbox serves; left alone when they stand there already."""
    text = json.dumps(_zone(demo), indent=1) + "\n"
    path = state.folder / "sandbox" / "zones" / "demo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        temporary = path.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)  # the sandbox never reads half of it


def _zone(demo: SendingDomain) -> list[dict[str, Any]]:
    ours = [demo, *domains.list_domains(Tenant.objects.get(is_system=True))]
    records: list[dict[str, Any]] = []
    for domain in ours:
        # What a customer would set, the DKIM keys by CNAME.
        records += [
            {
                "name": record.name,
                "type": record.type,
                "value": f"{record.value}{'.' if record.type == 'CNAME' else ''}",
            }
            for record in wanted_records(domain_records.wanted_of(domain))
            if not (record.purpose == "dkim" and record.type == "TXT")
        ]
        records.append({"name": domain.name, "type": "MX", "value": INBOX_HOST})
    # What the operator would set.
    records += [{"name": name, "type": kind, "value": value} for name, kind, value in domains.platform_records(ours)]
    records += _returns_records()
    records.append({"name": settings.BOUNCE_DOMAIN, "type": "TXT", "value": "v=spf1 ip4:127.0.0.0/8 ~all"})
    return records


def _returns_records() -> list[dict[str, Any]]:
    """Where the sandbox's hosts send what comes back. On the Internet an MX host listens on port 25; here SRV tells the port."""
    if not settings.RETURNS_BIND:
        return [{"name": settings.BOUNCE_DOMAIN, "type": "MX", "value": INBOX_HOST}]
    listener, host = settings.RETURNS_BIND[0], f"returns.{settings.BOUNCE_DOMAIN}"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    return [
        {"name": settings.BOUNCE_DOMAIN, "type": "MX", "value": f"10 {host}."},
        {"name": host, "type": "AAAA" if ":" in address else "A", "value": address},
        {"name": f"_smtp._tcp.{host}", "type": "SRV", "value": f"0 0 {listener.port} {host}."},
    ]


def _name_server_answers() -> bool:
    """The sandbox starts at the same time as we do."""
    server = settings.DNS
    deadline = time.monotonic() + _NAME_SERVER_WITHIN_S
    while server is not None and time.monotonic() < deadline:
        try:
            with socket.create_connection((server.host, server.port), timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _verify(domain: SendingDomain, actor: Actor) -> None:
    deadline = time.monotonic() + _VERIFIED_WITHIN_S
    while time.monotonic() < deadline:
        domain = domain_watch.check_domain(domain, actor=actor)
        if domain.state == DomainState.VERIFIED:
            return
        time.sleep(0.3)  # the zone file is noticed within a moment


# ---------------------------------------------------------------- what to try


def _what_to_try(demo: Demo) -> str:
    submission, inbox = _first(settings.SUBMISSION_BIND), os.environ.get("RELAY_SANDBOX_HTTP_BIND", "127.0.0.1:8025")
    author = f"hello@{DOMAIN}"
    return f"""
  Tenant     {settings.PUBLIC_URL}/    {OWNER}    password {demo.owner_password}
  Operator   {settings.PUBLIC_URL}/operator/    {OPERATOR}    password {demo.operator_password}
  SMTP       {submission} (STARTTLS, certificate of its own)    user {demo.smtp_username}    password {demo.smtp_secret}
  API key    {demo.api_key}

  A mail to try:

    swaks --server {submission} --tls \\
      --auth PLAIN --auth-user {demo.smtp_username} --auth-password {demo.smtp_secret} \\
      --from {author} --to {TRY_RECIPIENT} --header 'Subject: First mail'

  or, without swaks:

    printf 'From: {author}\\nTo: {TRY_RECIPIENT}\\nSubject: First mail\\n\\nHello\\n' |
      curl --url smtp://{submission} --ssl-reqd --insecure --crlf \\
        --user '{demo.smtp_username}:{demo.smtp_secret}' \\
        --mail-from {author} --mail-rcpt {TRY_RECIPIENT} --upload-file -

  Read it at http://{inbox.split(",")[0]}/ and follow it at {settings.PUBLIC_URL}/t/demo/messages/
  More mailboxes, each with a behaviour of its own: script/relay sandbox mailboxes
"""


def _first(endpoints: list[Any]) -> str:
    return str(endpoints[0]) if endpoints else "127.0.0.1:2587"
