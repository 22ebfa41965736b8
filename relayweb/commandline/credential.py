"""credential issue | list | rotate | revoke | approve"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import click

from accounts import credentials, tenants
from accounts.audit import Actor
from accounts.models import Credential, CredentialKind, CredentialUse, Tenant
from delivery import pools
from delivery.core.mailbox import parse_domain
from delivery.tenants import find_stream
from relayweb.commandline import output
from relayweb.commandline.verbs import MOMENT, Noun, maybe_tenant_option, subject, tenant_option

ID_HELP = "Id or user name."
SECRET_NOTE = "The secret is shown this once and stored nowhere."  # noqa: S105 - a sentence


@click.group("credential", cls=Noun)
def command() -> None:
    """SMTP logins, API keys and networks of tenants."""


@command.command("issue")
@tenant_option
@click.option("--kind", required=True, type=click.Choice(CredentialKind.values))
@click.option(
    "--use",
    type=click.Choice(CredentialUse.values),
    default=CredentialUse.APPLICATION.value,
    show_default=True,
    help="A mail server may use the null reverse-path.",
)
@click.option("--cidr", help="The network of a network credential, at most a /24 or an IPv6 /48.")
@click.option("--name", default="", help="What the tenant knows it by.")
@click.option("--stream", help="The stream its mail belongs to; else the tenant's default.")
@click.option("--pool", help="The pool its mail leaves from; else the stream's.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(credentials.TENANT_SCOPES),
    help="What an API key may do; may be repeated. Send, read and manage if not given.",
)
@click.option("--only-domain", default="", help="The only author domain it may be used for.")
@click.option("--only-from", "only_networks", multiple=True, help="A network it may be used from; may be repeated.")
@click.option("--test", "is_test", is_flag=True, help="Its mail is accepted and shown, and never leaves.")
@click.option("--daily", "daily_limit", type=click.IntRange(min=0), help="Recipients it may hand over in a day.")
@click.option("--rate", "rate_per_second", type=float, help="Recipients sent in a second.")
@click.option("--expires", "expires_at", type=MOMENT)
def issue(
    tenant: str,
    kind: str,
    use: str,
    cidr: str | None,
    name: str,
    stream: str | None,
    pool: str | None,
    scopes: tuple[str, ...],
    only_domain: str,
    only_networks: tuple[str, ...],
    is_test: bool,
    daily_limit: int | None,
    rate_per_second: float | None,
    expires_at: datetime | None,
) -> None:
    """Make a credential. Its secret is printed once."""
    if kind == CredentialKind.NETWORK and not cidr:
        raise click.UsageError("A network credential needs --cidr.")
    if scopes and kind != CredentialKind.API:
        raise click.UsageError("Only an API key has scopes.")
    found = tenants.find_tenant(tenant)
    issued = credentials.issue_credential(
        found,
        kind=kind,
        actor=Actor.command_line(),
        name=name,
        use=use,
        is_test=is_test,
        network=cidr,
        stream_id=find_stream(found, stream).id if stream else None,
        pool_id=_pool(found, pool) if pool else None,
        scopes=scopes or credentials.API_SCOPES,
        only_domain=_domain(only_domain),
        only_networks=only_networks,
        daily_limit=daily_limit,
        rate_per_second=rate_per_second,
        expires_at=expires_at,
    )
    output.record(_with_secret(issued.credential, issued.secret), note=_note(issued.credential))


@command.command("list")
@tenant_option
@click.option("--revoked", "with_revoked", is_flag=True, help="Also those that were revoked.")
def list_(tenant: str, with_revoked: bool) -> None:
    """A tenant's credentials, newest first."""
    found = credentials.list_credentials(tenants.find_tenant(tenant), with_revoked=with_revoked)
    names = pools.pools_of_credentials(found)
    columns = ("id", "kind", "use", "name", "username", "cidr", "test", "pool", "last_used_at")
    shapes = ({**_shape(one), "pool": names.get(one.pool_id) if one.pool_id else None} for one in found)
    output.rows(shapes, columns, empty="There is no credential yet.")


@command.command("rotate")
@subject("credential", "id", ID_HELP)
@maybe_tenant_option
@click.option("--overlap-hours", type=click.FloatRange(min=0, max=720), default=24.0, show_default=True)
def rotate(credential: str, tenant: str | None, overlap_hours: float) -> None:
    """Give a credential a new secret; the old one works on for a while."""
    found = credentials.find_credential(credential, tenant=_tenant(tenant))
    secret = credentials.rotate_credential(found, actor=Actor.command_line(), overlap=timedelta(hours=overlap_hours))
    output.record({**_with_secret(found, secret), "former_secret_until": found.former_secret_until}, note=_note(found))


@command.command("revoke")
@subject("credential", "id", ID_HELP)
@maybe_tenant_option
@click.option("--reason", default="")
def revoke(credential: str, tenant: str | None, reason: str) -> None:
    """Refuse a credential from now on. Cannot be undone."""
    found = credentials.find_credential(credential, tenant=_tenant(tenant))
    output.record(_shape(credentials.revoke_credential(found, actor=Actor.command_line(), reason=reason)))


@command.command("approve")
@subject("credential", "id", ID_HELP)
@maybe_tenant_option
def approve(credential: str, tenant: str | None) -> None:
    """Agree to a network that a tenant asked for."""
    found = credentials.find_credential(credential, tenant=_tenant(tenant))
    output.record(_shape(credentials.approve_credential(found, actor=Actor.command_line())))


def _tenant(key: str | None) -> Tenant | None:
    return None if key is None else tenants.find_tenant(key)


def _pool(tenant: Tenant, name: str) -> UUID:
    pool = pools.find_pool(name)
    pools.ensure_serves(pool, tenant.pk)
    return pool.pk


def _domain(name: str) -> str:
    try:
        return parse_domain(name) if name else ""
    except ValueError as error:
        raise click.UsageError(f"--only-domain: {error}") from None


def _with_secret(credential: Credential, secret: str | None) -> dict[str, Any]:
    if credential.kind == CredentialKind.API and secret is not None:
        # What goes behind "Authorization: Bearer" is one word.
        secret = credentials.api_key(credential, secret)
    return {
        "id": credential.id,
        "kind": credential.kind,
        "username": credential.username,
        "secret": secret,
        "use": credential.use,
        "name": credential.name,
        "cidr": _text(credential.network),
        "scopes": credential.scopes,
        "test": credential.is_test,
        "expires_at": credential.expires_at,
    }


def _note(credential: Credential) -> str:
    match credential.kind:
        case CredentialKind.API:
            return f"{SECRET_NOTE} It is the whole key: Authorization: Bearer <secret>"
        case CredentialKind.SMTP:
            return SECRET_NOTE
        case _:
            return ""


def _shape(credential: Credential) -> dict[str, Any]:
    return {
        "id": credential.id,
        "kind": credential.kind,
        "username": credential.username,
        "use": credential.use,
        "name": credential.name,
        "cidr": _text(credential.network),
        "scopes": credential.scopes,
        "test": credential.is_test,
        "approved_at": credential.approved_at,
        "created_at": credential.created_at,
        "expires_at": credential.expires_at,
        "revoked_at": credential.revoked_at,
        "last_used_at": credential.last_used_at,
        "last_used_from": credential.last_used_from,
        "used_count": credential.used_count,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)
