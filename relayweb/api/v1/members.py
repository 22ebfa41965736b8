"""Members and invitations of a tenant, by the rules of the console: a key may what an admin may, and never touches owners.

Changes need a scope of their own, which only admins and owners give to a key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from django.utils.translation import gettext_noop as _
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import invitations, memberships
from accounts.memberships import KeyStanding
from accounts.models import Invitation, Membership
from relayweb.api.pagination import cursor_of, read_cursor
from relayweb.api.permissions import MEMBERS, READ
from relayweb.api.resources import NoParameters, ResourceView, operation
from relayweb.api.structures import Input, Moment, Query, Shape, page, page_of
from relayweb.invitation_letters import send_invitation


class RoleName(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    ANALYST = "analyst"


class MemberShape(Shape, frozen=True):
    id: UUID
    email: str
    name: str
    role: Annotated[str, msgspec.Meta(description=_("owner, admin, developer or analyst"))]
    created_at: Moment


class InvitationShape(Shape, frozen=True):
    id: UUID
    email: str
    role: RoleName
    created_at: Moment
    expires_at: Annotated[Moment, msgspec.Meta(description=_("when the link ends; it can be sent again"))]


class InvitationListShape(Shape, frozen=True):
    data: list[InvitationShape]


MemberPage = page_of(MemberShape)


class NewInvitation(Input, frozen=True):
    email: Annotated[str, msgspec.Meta(max_length=254)]
    role: Annotated[RoleName, msgspec.Meta(description=_("a key makes no owners"))] = RoleName.DEVELOPER


class RoleChange(Input, frozen=True):
    role: Annotated[RoleName, msgspec.Meta(description=_("a key makes no owners"))]


class MemberView(ResourceView):
    scope = MEMBERS
    scopes: ClassVar[dict[str, str]] = {"GET": READ, "HEAD": READ, "OPTIONS": READ}


class Members(MemberView):
    @operation("list_members", tag="tenant", says=_("People and their roles"), query=Query, answer=MemberPage)
    def get(self, request: Request) -> Response:
        asked = self.asked(Query)
        found = Membership.objects.of(self.tenant).select_related("user").order_by("-id")
        if asked.cursor:
            found = found.filter(id__lt=read_cursor(asked.cursor)[0])
        rows = list(found[: asked.limit + 1])
        more, rows = len(rows) > asked.limit, rows[: asked.limit]
        return Response(page(map(_member, rows), cursor_of(rows[-1].id if more else None)))


class MemberOne(MemberView):
    @operation("get_member", tag="tenant", says=_("One member"), query=NoParameters, answer=MemberShape)
    def get(self, request: Request, member_id: UUID) -> Response:
        self.asked(NoParameters)
        return Response(_member(memberships.find(self.tenant, member_id)))

    @operation("change_role", tag="tenant", says=_("Another role for a member"), body=RoleChange, answer=MemberShape)
    def patch(self, request: Request, member_id: UUID) -> Response:
        given = self.given(RoleChange)
        found = memberships.find(self.tenant, member_id)
        return Response(_member(memberships.change_role(found, given.role, by=KeyStanding(), actor=self.caller.actor)))

    @operation(
        "remove_member",
        tag="tenant",
        says=_("No member any more; who is to come back is invited again"),
        query=NoParameters,
        answer=MemberShape,
    )
    def delete(self, request: Request, member_id: UUID) -> Response:
        self.asked(NoParameters)
        found = memberships.find(self.tenant, member_id)
        gone = _member(found)
        memberships.remove(found, by=KeyStanding(), actor=self.caller.actor)
        return Response(gone)


class Invitations(MemberView):
    @operation(
        "list_invitations",
        tag="tenant",
        says=_("Open invitations, newest first"),
        query=NoParameters,
        answer=InvitationListShape,
    )
    def get(self, request: Request) -> Response:
        self.asked(NoParameters)
        found = invitations.open_invitations(self.tenant)
        return Response(InvitationListShape(data=[_invitation(one) for one in found]))

    @operation(
        "invite_member",
        tag="tenant",
        says=_("Send somebody a link to join with"),
        body=NewInvitation,
        answer=InvitationShape,
        status=201,
    )
    def post(self, request: Request) -> Response:
        given = self.given(NewInvitation)
        made = invitations.invite(
            self.tenant, email=given.email, role=given.role, by=KeyStanding(), actor=self.caller.actor
        )
        send_invitation(made)
        return Response(_invitation(made), status=201)


class InvitationOne(MemberView):
    @operation(
        "withdraw_invitation",
        tag="tenant",
        says=_("Its link works no more"),
        query=NoParameters,
        answer=InvitationShape,
    )
    def delete(self, request: Request, invitation_id: UUID) -> Response:
        self.asked(NoParameters)
        found = invitations.find(self.tenant, invitation_id)
        invitations.withdraw(found, actor=self.caller.actor)
        return Response(_invitation(found))


class SendInvitationAgain(MemberView):
    @operation(
        "send_invitation_again",
        tag="tenant",
        says=_("A new link; the former one works no more"),
        body=NoParameters,
        answer=InvitationShape,
    )
    def post(self, request: Request, invitation_id: UUID) -> Response:
        self.given(NoParameters)
        found = invitations.find(self.tenant, invitation_id)
        memberships.ensure_may_give(KeyStanding(), memberships.checked_role(found.role))
        made = invitations.send_again(found, actor=self.caller.actor)
        send_invitation(made)
        return Response(_invitation(made))


def _member(member: Membership) -> MemberShape:
    return MemberShape(
        id=member.id,
        email=member.user.email,
        name=member.user.name,
        role=member.role,
        created_at=member.created_at,
    )


def _invitation(invitation: Invitation) -> InvitationShape:
    return InvitationShape(
        id=invitation.id,
        email=invitation.email,
        role=RoleName(invitation.role),
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
    )
