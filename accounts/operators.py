"""Operators: the people who run the installation. They are ordinary people with one flag."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit, people
from accounts.audit import Actor
from accounts.models import User
from accounts.refusals import Refused


def create_operator(email: str, *, actor: Actor, password: str | None = None, name: str = "") -> tuple[User, bool]:
    """Makes the person an operator; without a password they enter through ``people.one_time_link``.

    Returns the person and whether they are new to the installation. Raises Refused if they are an operator already or
    the password is too weak.
    """
    with transaction.atomic():
        user, is_new = people.find_or_create_user(email, name=name)
        if user.is_operator:
            raise Refused(_("%(email)s is an operator already.") % {"email": user.email}, reason="already_operator")
        if password is not None:
            people.set_password(user, password)
        user.is_operator = True
        user.email_confirmed_at = user.email_confirmed_at or timezone.now()
        user.save(update_fields=["is_operator", "email_confirmed_at"])
        audit.record(
            actor, "operator.create", object_id=user.id, object_name=user.email, before={"is_operator": False},
            after={"is_operator": True},
        )  # fmt: skip
    return user, is_new


def dismiss_operator(email: str, *, actor: Actor) -> User:
    """The person stays, without the flag.

    The last operator cannot be dismissed: nobody could make another in a browser.
    """
    user = people.find_user(email)
    with transaction.atomic():
        operators = list(User.objects.select_for_update().filter(is_operator=True, is_active=True))
        if user not in operators:
            raise Refused(_("%(email)s is no operator.") % {"email": user.email}, reason="no_operator")
        if len(operators) == 1:
            raise Refused(_("%(email)s is the only operator.") % {"email": user.email}, reason="last_operator")
        User.objects.filter(pk=user.pk).update(is_operator=False)
        audit.record(
            actor, "operator.dismiss", object_id=user.id, object_name=user.email, before={"is_operator": True},
            after={"is_operator": False},
        )  # fmt: skip
    user.refresh_from_db()
    return user


def list_operators() -> list[User]:
    return list(User.objects.filter(is_operator=True).order_by("created_at"))
