"""The letter that invites somebody into a tenant, sent by whoever invites: a person in the console, or a program."""

from __future__ import annotations

from accounts import invitations
from accounts.models import Invitation, Role
from relayweb import letters
from relayweb.console import words


def send_invitation(made: Invitation) -> None:
    role, link = Role(made.role), invitations.link_of(made)
    letters.send(
        made.email,
        lambda: letters.invitation(
            made, link=link, role=words.ROLES[role], rights=words.RIGHTS[role], zone=made.tenant.time_zone
        ),
        language=made.tenant.language,
    )
