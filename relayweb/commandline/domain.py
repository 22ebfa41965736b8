"""domain add | show | check | list | update | renew-key | switch-key | remove | restore | zone"""

from __future__ import annotations

from typing import Any

import click

from accounts import tenants
from accounts.audit import Actor
from accounts.models import Tenant
from delivery import domain_keys, domain_records, domain_watch, domains
from delivery.domain_checks import level_of
from delivery.models import DkimKey, SendingDomain
from relayweb.commandline import output
from relayweb.commandline.verbs import Noun, maybe_tenant_option, subject, tenant_option

NAME_HELP = "The domain's name."


@click.group("domain", cls=Noun)
def command() -> None:
    """Sending domains and their DNS records."""


@command.command("add")
@tenant_option
@click.option("--name", required=True, help=NAME_HELP)
@click.option("--assume-verified", is_flag=True, help="Vouch for it: it is never looked up in the DNS.")
def add(tenant: str, name: str, assume_verified: bool) -> None:
    """Claim a domain for a tenant, and print the records that prove it."""
    found = tenants.find_tenant(tenant)
    _show(domains.add_domain(found, name, actor=Actor.command_line(), assume_verified=assume_verified))


@command.command("show")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def show(name: str, tenant: str | None) -> None:
    """A domain's state, and each record as it should be and as it was last found."""
    _show(domains.find_domain(name, tenant=_tenant(tenant)))


@command.command("check")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def check(name: str, tenant: str | None) -> None:
    """Look the records up now, and act on what is there."""
    _show(domain_watch.check_domain(domains.find_domain(name, tenant=_tenant(tenant)), actor=Actor.command_line()))


@command.command("list")
@maybe_tenant_option
def list_(tenant: str | None) -> None:
    """Domains of one tenant, or of all."""
    found = domains.list_domains(_tenant(tenant))
    output.rows(
        map(_shape, found), ("name", "state", "tenant", "signing", "checked_at"), empty="There is no domain yet."
    )


@command.command("update")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
@click.option("--signing", type=click.Choice(["on", "off"]), help="DKIM signatures of the domain.")
@click.option("--subdomains", type=click.Choice(["on", "off"]), help="Whether it covers the names below it.")
@click.option("--keep-reverse-path", type=click.Choice(["on", "off"]), help="off: bounces come to us.")
@click.option("--unsubscribe", type=click.Choice(["on", "off"]), help="Bulk mail without List-Unsubscribe gets ours.")
@click.option("--assume-verified", is_flag=True, help="Vouch for it: it is never looked up in the DNS.")
def update(
    name: str,
    tenant: str | None,
    signing: str | None,
    subdomains: str | None,
    keep_reverse_path: str | None,
    unsubscribe: str | None,
    assume_verified: bool,
) -> None:
    """Change how a domain's mail is treated."""
    if not any((signing, subdomains, keep_reverse_path, unsubscribe, assume_verified)):
        raise click.UsageError("Say what to change.")
    found = domains.find_domain(name, tenant=_tenant(tenant))
    if assume_verified:
        found = domains.assume_verified(found, actor=Actor.command_line())
    changed = domains.update_domain(
        found,
        actor=Actor.command_line(),
        signs=_is_on(signing),
        covers_subdomains=_is_on(subdomains),
        keeps_reverse_path=_is_on(keep_reverse_path),
        adds_unsubscribe=_is_on(unsubscribe),
    )
    _show(changed)


@command.command("renew-key")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def renew_key(name: str, tenant: str | None) -> None:
    """Make a new DKIM key in the place of the one that does not sign; `domain zone` has its record."""
    found = domains.find_domain(name, tenant=_tenant(tenant))
    output.record(_key_shape(found, domain_keys.renew_key(found, actor=Actor.command_line())))


@command.command("switch-key")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def switch_key(name: str, tenant: str | None) -> None:
    """Sign with the other DKIM key, once its record shows it; the same again switches back."""
    found = domains.find_domain(name, tenant=_tenant(tenant))
    output.record(_key_shape(found, domain_keys.switch_key(found, actor=Actor.command_line())))


@command.command("remove")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def remove(name: str, tenant: str | None) -> None:
    """Refuse new mail from a domain at once and hold what waits; can be undone for seven days."""
    found = domains.find_domain(name, tenant=_tenant(tenant))
    output.record(_shape(domains.remove_domain(found, actor=Actor.command_line())))


@command.command("restore")
@subject("name", "name", NAME_HELP)
@maybe_tenant_option
def restore(name: str, tenant: str | None) -> None:
    """Take a removal back."""
    found = domains.find_domain(name, tenant=_tenant(tenant), is_removed=True)
    _show(domains.restore_domain(found, actor=Actor.command_line()))


@command.command("zone")
def zone() -> None:
    """The TXT records you publish below the platform's DKIM domain, where the customers' CNAMEs lead."""
    documents = [{"name": name, "type": kind, "value": value} for name, kind, value in domains.platform_records()]
    if output.is_json():
        output.write(documents)
        return
    for document in documents:
        text = document["value"]
        strings = " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))
        click.echo(f"{document['name']}. 300 IN {document['type']} {strings}")


def _tenant(key: str | None) -> Tenant | None:
    return None if key is None else tenants.find_tenant(key)


def _key_shape(domain: SendingDomain, key: DkimKey) -> dict[str, Any]:
    target = next(wanted.target for wanted in domain_records.wanted_of(domain).keys if wanted.selector == key.selector)
    return {
        "domain": domain.name,
        "selector": key.selector,
        "state": key.state,
        "record": target,
        "value": key.public_record,
    }


def _is_on(word: str | None) -> bool | None:
    return None if word is None else word == "on"


def _shape(domain: SendingDomain) -> dict[str, Any]:
    return {
        "id": domain.id,
        "name": domain.name,
        "tenant": domain.tenant.slug,
        "state": domain.state,
        "assumed": domain.is_assumed,
        "signing": domain.signs,
        "covers_subdomains": domain.covers_subdomains,
        "keeps_reverse_path": domain.keeps_reverse_path,
        "adds_unsubscribe": domain.adds_unsubscribe,
        "verified_at": domain.verified_at,
        "checked_at": domain.checked_at,
        "next_check_at": domain.next_check_at,
        "failing_since": domain.failing_since,
    }


def _show(domain: SendingDomain) -> None:
    found = domain_records.records_of(domain)
    records = [
        {
            "purpose": record.purpose,
            "type": record.type,
            "name": record.name,
            "value": record.value,
            "found": record.found,
            "ok": record.ok,
        }
        for record in found
    ]
    findings = [
        {
            "finding": fault.finding,
            "level": level_of(fault.finding),
            "purpose": fault.purpose,
            "name": fault.name,
            **fault.data,
        }
        for fault in domain_records.findings_of(domain)
        if fault.finding is not None
    ]
    if output.is_json():
        output.write({**_shape(domain), "records": records, "findings": findings})
        return
    output.record(_shape(domain))
    for record in found:
        click.echo(f"\n{'ok' if record.ok else '--'}  {record.purpose}: {record.type} {record.name}")
        click.echo(f"    {record.value}")
        if record.found and not record.ok:
            click.echo(f"    found: {output.printable(record.found)}")
    if findings:
        click.echo()
        output.table(
            ("level", "finding", "name"), [[fault["level"], fault["finding"], fault["name"]] for fault in findings]
        )
