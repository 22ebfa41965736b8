"""Operators and one-time links."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from accounts import operators, people
from accounts.audit import Actor
from accounts.models import AuditEntry, User
from accounts.refusals import NotFound, Refused

PASSWORD = "correct horse battery"


def _token(user: User) -> str:
    return people.one_time_link(user).rstrip("/").rpartition("/")[2]


def test_an_operator_is_made_with_a_password(db: None, operator: Actor) -> None:
    user, is_new = operators.create_operator("olivia@relay.example", password=PASSWORD, actor=operator)

    assert is_new
    assert user.is_operator
    assert user.check_password(PASSWORD)
    assert user.email_confirmed_at is not None


@pytest.mark.parametrize("password", ["short", "password123", "olivia@relay.example"])
def test_a_weak_password_is_refused_and_nobody_is_made(db: None, operator: Actor, password: str) -> None:
    with pytest.raises(Refused) as refused:
        operators.create_operator("olivia@relay.example", password=password, actor=operator)

    assert refused.value.reason == "password_too_weak"
    assert not User.objects.filter(email="olivia@relay.example").exists()


def test_a_member_who_becomes_an_operator_keeps_the_password(db: None, operator: Actor) -> None:
    User.objects.create_user("alice@acme.example", PASSWORD)

    user, is_new = operators.create_operator("alice@acme.example", actor=operator)

    assert not is_new
    assert user.check_password(PASSWORD)


def test_nobody_becomes_an_operator_twice(db: None, operator: Actor) -> None:
    operators.create_operator("olivia@relay.example", actor=operator)

    with pytest.raises(Refused):
        operators.create_operator("Olivia@relay.example", actor=operator)


def test_the_last_operator_cannot_be_dismissed(db: None, operator: Actor) -> None:
    operators.create_operator("olivia@relay.example", actor=operator)
    with pytest.raises(Refused) as refused:
        operators.dismiss_operator("olivia@relay.example", actor=operator)
    assert refused.value.reason == "last_operator"
    operators.create_operator("oscar@relay.example", actor=operator)

    operators.dismiss_operator("olivia@relay.example", actor=operator)

    assert [user.email for user in operators.list_operators()] == ["oscar@relay.example"]
    assert AuditEntry.objects.filter(action="operator.dismiss").count() == 1


def test_a_link_lets_its_person_in_once(db: None) -> None:
    user, _is_new = people.find_or_create_user("alice@acme.example")
    token = _token(user)

    people.enter_by_link(token, password=PASSWORD)

    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert user.email_confirmed_at is not None
    with pytest.raises(NotFound):
        people.enter_by_link(token, password="another horse battery")


def test_a_link_is_dead_after_an_hour(db: None) -> None:
    user, _is_new = people.find_or_create_user("alice@acme.example")
    token = _token(user)

    with time_machine.travel(timezone.now() + timedelta(minutes=61)), pytest.raises(NotFound):
        people.user_of_link(token)


def test_a_link_is_dead_after_the_next_sign_in(db: None) -> None:
    user, _is_new = people.find_or_create_user("alice@acme.example")
    token = _token(user)
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])

    with pytest.raises(NotFound):
        people.user_of_link(token)


@pytest.mark.parametrize("token", ["", "x", "a:b:c", "WyJhIl0:1xVigP:zzzz"])
def test_a_made_up_link_leads_nowhere(db: None, token: str) -> None:
    with pytest.raises(NotFound):
        people.user_of_link(token)


def test_a_link_does_not_let_an_inactive_person_in(db: None) -> None:
    user, _is_new = people.find_or_create_user("alice@acme.example")
    token = _token(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(NotFound):
        people.user_of_link(token)


def test_a_links_host_comes_from_the_settings(db: None, settings) -> None:  # type: ignore[no-untyped-def]
    settings.PUBLIC_URL = "https://relay.example"
    user, _is_new = people.find_or_create_user("alice@acme.example")

    assert people.one_time_link(user).startswith("https://relay.example/welcome/")


@pytest.mark.parametrize("address", ["", "alice", "alice@", "a b@c.example", "alice@acme.example\nBcc: x@y.example"])
def test_what_is_no_address_is_refused(db: None, address: str) -> None:
    with pytest.raises(Refused):
        people.find_or_create_user(address)
