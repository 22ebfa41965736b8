"""operator create | list | link | key | dismiss"""

from __future__ import annotations

from datetime import datetime

import click

from accounts import credentials, operators, people
from accounts.audit import Actor
from accounts.models import CredentialKind, Tenant, User
from relayweb.commandline import output
from relayweb.commandline.verbs import MOMENT, Noun, password_from_stdin
from relayweb.processes import environment

SECRET_NOTE = "The key is shown this once and stored nowhere."  # noqa: S105 - a sentence
LINK_NOTE = "The link sets a password and works once, for an hour."


@click.group("operator", cls=Noun)
def command() -> None:
    """People who run this installation."""


@command.command("create")
@click.option("--email", required=True)
@click.option("--name", default="", help="What people call them.")
@click.option("--password-stdin", is_flag=True, help="Read a password from stdin instead of making a one-time link.")
def create(email: str, name: str, password_stdin: bool) -> None:
    """Make somebody an operator. Prints a one-time link unless a password comes on stdin."""
    password = password_from_stdin() if password_stdin else None
    user, _is_new = operators.create_operator(email, actor=Actor.command_line(), password=password, name=name)
    needs_link = password is None and not user.has_usable_password()
    link = sign_in_link(user) if needs_link else None
    output.record({**_shape(user), "link": link}, note=LINK_NOTE if link else "")


@command.command("list")
def list_() -> None:
    """Everybody who is an operator."""
    output.rows(
        map(_shape, operators.list_operators()), ("email", "name", "created_at"), empty="There is no operator yet."
    )


@command.command("link")
@click.option("--email", required=True)
def link(email: str) -> None:
    """A one-time link for somebody who cannot sign in: operators and members alike."""
    user = people.find_user(email)
    output.record({"email": user.email, "link": sign_in_link(user)}, note=LINK_NOTE)


@command.command("key")
@click.option("--name", default="", help="What it is for.")
@click.option("--only-from", "only_networks", multiple=True, help="A network it may be used from; may be repeated.")
@click.option("--expires", "expires_at", type=MOMENT)
def key(name: str, only_networks: tuple[str, ...], expires_at: datetime | None) -> None:
    """An API key for /api/v1/operator/: tenants, limits, sources, pools. It reads nobody's mail."""
    issued = credentials.issue_credential(
        Tenant.objects.get(is_system=True),
        kind=CredentialKind.API,
        actor=Actor.command_line(),
        name=name,
        scopes=[credentials.OPERATE],
        only_networks=only_networks,
        expires_at=expires_at,
    )
    assert issued.secret is not None
    output.record(
        {
            "id": issued.credential.id,
            "username": issued.credential.username,
            "secret": credentials.api_key(issued.credential, issued.secret),
            "scopes": issued.credential.scopes,
            "expires_at": issued.credential.expires_at,
        },
        note=SECRET_NOTE,
    )


@command.command("dismiss")
@click.option("--email", required=True)
def dismiss(email: str) -> None:
    """Somebody is no operator any more."""
    output.record(_shape(operators.dismiss_operator(email, actor=Actor.command_line())))


def sign_in_link(user: User) -> str:
    if not environment.is_given("SECRET_KEY"):
        raise click.ClickException(
            "A one-time link needs the web's secret key: set RELAY_SECRET_KEY as the server has it, or give a password."
        )
    return people.one_time_link(user)


def _shape(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "is_operator": user.is_operator,
        "created_at": user.created_at,
    }
