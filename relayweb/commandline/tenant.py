"""tenant create | list | show | suspend | resume | close | quiet-hours | seal-content | export"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from django.utils import timezone

from accounts import audit, quotas, tenants, trust
from accounts.audit import Actor
from accounts.models import QuietStreams, Tenant
from accounts.refusals import Refused
from accounts.sealing import SealingError
from delivery import archive, content_keys, quiet_hours
from delivery.tenants import open_tenant
from relayweb.commandline import output
from relayweb.commandline.operator import LINK_NOTE, sign_in_link
from relayweb.commandline.verbs import TENANT_HELP, Noun, subject
from relayweb.processes import environment


@click.group("tenant", cls=Noun)
def command() -> None:
    """Customers: make, suspend, resume, close."""


@command.command("create")
@click.option("--name", required=True)
@click.option("--owner-email", required=True)
@click.option("--slug", default="", help="Its name in addresses; made from --name if not given.")
@click.option("--language", type=click.Choice(["ja", "en"]), default="ja", show_default=True)
@click.option("--time-zone", default="Asia/Tokyo", show_default=True)
def create(name: str, owner_email: str, slug: str, language: str, time_zone: str) -> None:
    """Make a tenant and its owner, who gets a one-time link if new."""
    tenant, owner = open_tenant(
        name, owner_email=owner_email, actor=Actor.command_line(), slug=slug, language=language, time_zone=time_zone
    )
    may_link = environment.is_given("SECRET_KEY") and not owner.has_usable_password()
    link = sign_in_link(owner) if may_link else None
    output.record({**shape(tenant), "owner_email": owner.email, "link": link}, note=LINK_NOTE if link else "")


@command.command("list")
def list_() -> None:
    """Every tenant."""
    found = Tenant.objects.order_by("created_at")
    output.rows(map(shape, found), ("slug", "name", "state", "created_at", "id"), empty="There is no tenant yet.")


@command.command("show")
@subject("tenant", "tenant", TENANT_HELP)
def show(tenant: str) -> None:
    """One tenant with its owners, limits and use."""
    found = tenants.find_tenant(tenant)
    output.record(
        {
            **shape(found),
            "owners": [owner.email for owner in tenants.owners_of(found)],
            "limits": quotas.as_mapping(quotas.limits_of(found)),
            "used": quotas.usage_of(found),
        }
    )


@command.command("suspend")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--reason", default="", help="Kept in the audit log and shown to the tenant.")
def suspend(tenant: str, reason: str) -> None:
    """Put new mail off with 450 and keep what was taken."""
    output.record(shape(tenants.suspend_tenant(tenants.find_tenant(tenant), reason=reason, actor=Actor.command_line())))


@command.command("resume")
@subject("tenant", "tenant", TENANT_HELP)
def resume(tenant: str) -> None:
    """End a suspension, or take the closing of a tenant back."""
    output.record(shape(tenants.resume_tenant(tenants.find_tenant(tenant), actor=Actor.command_line())))


@command.command("close")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--reason", default="")
def close(tenant: str, reason: str) -> None:
    """Refuse new mail for good; what was taken is still delivered."""
    output.record(shape(tenants.close_tenant(tenants.find_tenant(tenant), actor=Actor.command_line(), reason=reason)))


@command.command("export")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--output", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A ZIP file.")
def export(tenant: str, path: Path) -> None:
    """Write everything a tenant has, but content and secrets, into a ZIP file."""
    found = tenants.find_tenant(tenant)
    now = timezone.now()
    audit.record(
        Actor.command_line(), "tenant.export", tenant=found, object_id=found.id, object_name=found.slug
    )  # fmt: skip
    # Under another name until it is whole: a full disk leaves no half file that looks like one.
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        lines = archive.write_file(found, unfinished, until=now)
        unfinished.replace(path)
    except OSError as error:
        raise Refused(
            f"{path} could not be written: {error.strerror}.", reason="not_written", field="output"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    output.record({"tenant": found.slug, "file": str(path), "lines": lines, "size_bytes": path.stat().st_size})


@command.command("approve")
@subject("tenant", "tenant", TENANT_HELP)
def approve(tenant: str) -> None:
    """Agree to a tenant that opened itself: it may add sending domains from now on."""
    output.record(shape(tenants.approve_tenant(tenants.find_tenant(tenant), actor=Actor.command_line())))


@command.command("trust")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--step", required=True, help="From 0; the number of steps for the end, `none` for off the ladder.")
def trust_(tenant: str, step: str) -> None:
    """Set the step of the trust ladder, and with it the daily limit."""
    if step != "none" and not step.isdecimal():
        raise click.UsageError("A step is a number or none.")
    found = tenants.find_tenant(tenant)
    trust.set_step(found, None if step == "none" else int(step), actor=Actor.command_line())
    output.record({**shape(found), "limits": quotas.as_mapping(quotas.limits_of(found))})


@command.command("quiet-hours")
@subject("tenant", "tenant", TENANT_HELP)
@click.option(
    "--from", "begins", type=click.DateTime(["%H:%M"]), help="A time of day in the tenant's zone, such as 21:00."
)
@click.option("--until", "ends", type=click.DateTime(["%H:%M"]))
@click.option("--streams", type=click.Choice(QuietStreams.values), default=QuietStreams.BULK.value, show_default=True)
@click.option("--none", "is_off", is_flag=True, help="No quiet hours any more.")
def quiet_hours_(tenant: str, begins: datetime | None, ends: datetime | None, streams: str, is_off: bool) -> None:
    """Let mail to mobile carriers rest at night."""
    if is_off == bool(begins or ends):
        raise click.UsageError("Say --from and --until, or --none.")
    found = tenants.find_tenant(tenant)
    quiet_hours.set_quiet_hours(
        found,
        begins=begins.time() if begins else None,
        ends=ends.time() if ends else None,
        streams=streams,
        actor=Actor.command_line(),
    )
    output.record(shape(found))


@command.command("seal-content")
@subject("tenant", "tenant", TENANT_HELP)
@click.option("--on/--off", "is_on", required=True, help="For mail accepted from now on.")
def seal_content(tenant: str, is_on: bool) -> None:
    """Seal the content of a tenant's mail with a key of its own, which is erased with the tenant."""
    found = tenants.find_tenant(tenant)
    try:
        content_keys.set_sealing(found, is_on, actor=Actor.command_line())
    except SealingError as error:
        raise Refused(f"No key could be made: {error}.", reason="key_missing") from None
    output.record({**shape(found), "seals_content": content_keys.is_sealing(found)})


def shape(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "slug": tenant.slug,
        "name": tenant.name,
        "state": tenant.state,
        "state_reason": tenant.state_reason,
        "is_system": tenant.is_system,
        "time_zone": tenant.time_zone,
        "quiet_hours": f"{tenant.quiet_from:%H:%M}–{tenant.quiet_until:%H:%M} {tenant.quiet_streams}"
        if tenant.quiet_from and tenant.quiet_until
        else None,
        "created_at": tenant.created_at,
        "closed_at": tenant.closed_at,
        "awaits_approval": tenant.awaits_approval,
        "trust_level": tenant.trust_level,
    }
