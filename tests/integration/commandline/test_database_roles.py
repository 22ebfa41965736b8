"""Each part may do with the database what its work needs: mail flows under the roles, and what is none of a part's business
is refused by PostgreSQL itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from relayweb.processes import database_roles
from relayweb.processes.own_urls import only_own
from relayweb.schedule import SCHEDULE
from tests.support.dns_server import FakeDns
from tests.support.journeys import make_cast

Relay = Callable[..., Any]


REFUSED = (
    ("gate", "SELECT password FROM accounts_user"),
    ("gate", "SELECT session_key FROM django_session"),
    ("gate", "SELECT sealed_private_key FROM delivery_dkimkey"),
    ("gate", "SELECT sealed_secret FROM delivery_webhook"),
    ("gate", "SELECT sealed_password FROM delivery_route"),
    ("gate", "SELECT compressed FROM delivery_content"),
    ("gate", "SELECT subject FROM delivery_message"),
    ("gate", "UPDATE accounts_tenant SET daily_limit = NULL"),
    ("gate", "UPDATE accounts_credential SET secret_sha256 = ''"),
    ("gate", "INSERT INTO accounts_auditentry DEFAULT VALUES"),
    ("returns", "SELECT email FROM accounts_user"),
    ("returns", "SELECT username FROM accounts_credential"),
    ("returns", "SELECT compressed FROM delivery_returnedmail"),
    ("returns", "DELETE FROM delivery_returnedmail"),
    ("returns", "SELECT id FROM delivery_message"),
    ("worker", "SELECT password FROM accounts_user"),
    ("worker", "SELECT session_key FROM django_session"),
    ("worker", "UPDATE accounts_tenant SET daily_limit = NULL"),
    ("worker", "UPDATE accounts_credential SET revoked_at = NULL"),
    ("webhooks", "SELECT compressed FROM delivery_content"),
    ("webhooks", "SELECT secret_sha256 FROM accounts_credential"),
    ("housekeeping", "SELECT session_data FROM django_session"),
    ("housekeeping", "SELECT secret_sealed FROM accounts_onetimepassword"),
    ("housekeeping", "UPDATE accounts_user SET is_operator = true"),
    ("housekeeping", "DROP TABLE delivery_message"),
    ("housekeeping", "SELECT make_day_partition('accounts_user', '2030-01-01')"),
    ("housekeeping", "SELECT drop_day_partition('delivery_message_p20200101')"),
    ("web", "DELETE FROM accounts_auditentry"),
    ("web", "UPDATE delivery_attempt SET phase = ''"),
    ("web", "DELETE FROM delivery_event"),
    ("web", "TRUNCATE accounts_notice"),
    ("web", "CREATE TABLE mine (a int)"),
    ("web", "SELECT make_day_partition('delivery_message', '2030-01-01')"),
)


@pytest.fixture
def roles(db: None) -> dict[str, str]:
    """Made for this test's database, and gone with its transaction. By part."""
    return {made.part: made.role for made in database_roles.make()}


@contextmanager
def acting_as(role: str) -> Iterator[CursorWrapper]:
    """In a transaction that is given up at its end, with a role's rights."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f'SET LOCAL ROLE "{role}"')
        yield cursor
        transaction.set_rollback(True)


def test_every_table_has_its_rights_declared(db: None) -> None:
    assert database_roles.undeclared_tables() == []


def test_what_is_not_a_parts_business_is_refused(roles: dict[str, str]) -> None:
    done = []
    for part, statement in REFUSED:
        try:
            with acting_as(roles[part]) as cursor:
                cursor.execute(statement)
        except ProgrammingError as refused:
            assert refused.__cause__ is not None
            assert (part, statement, refused.__cause__.sqlstate) == (part, statement, "42501")  # type: ignore[attr-defined]
        else:
            done.append((part, statement))

    assert done == []


def test_all_periodic_work_may_be_done_by_housekeeping(roles: dict[str, str], name_server: FakeDns) -> None:
    """With what every installation has; a right that is missing would stop the work at its first statement."""
    import delivery.tasks
    import relayweb.tasks

    tasks = {
        task.name: task
        for module in (delivery.tasks, relayweb.tasks)
        for task in vars(module).values()
        if hasattr(task, "apply_async")
    }
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE "delivery_event_p{timezone.now() + timedelta(days=3):%Y%m%d}"')
    make_cast()
    names = {entry["task"] for entry in SCHEDULE.values()}

    for name in sorted(names):
        with acting_as(roles["housekeeping"]):
            tasks[name]()

    assert {"delivery.make_partitions", "delivery.erase_tenants", "relayweb.forget_people"} <= names


def test_rights_are_brought_to_what_is_declared_by_the_difference(roles: dict[str, str]) -> None:
    gate = roles["gate"]
    with connection.cursor() as cursor:
        cursor.execute(f'GRANT SELECT ON accounts_user TO "{gate}"; REVOKE INSERT ON delivery_content FROM "{gate}"')
        cursor.execute("CREATE TABLE delivery_of_tomorrow (id int)")

    changed = database_roles.bring_up_to_date()

    # The four columns of people that a gate may read went with the table's right, and come back.
    assert changed["gate"] == (5, 1)
    assert set(changed.values()) == {(5, 1), (0, 0)}
    assert set(database_roles.bring_up_to_date().values()) == {(0, 0)}
    assert database_roles.undeclared_tables() == ["delivery_of_tomorrow"]
    with pytest.raises(ProgrammingError), acting_as(gate) as cursor:
        cursor.execute("SELECT * FROM delivery_of_tomorrow")


def test_the_command_makes_roles_says_each_password_once_and_takes_all_back(db: None, relay: Relay) -> None:
    made = relay("database", "roles", "--json").document
    again = relay("database", "roles", "--json").document
    anew = relay("database", "roles", "--new-passwords", "--json").document
    removed = relay("database", "roles", "--remove", "--json").document

    assert [one["part"] for one in made] == list(database_roles.PARTS)
    assert all(one["setting"].startswith(f"RELAY_DATABASE_URL_{one['part'].upper()}=postgresql://") for one in made)
    assert [(one["is_new"], one["granted"], one["setting"]) for one in again] == [(False, 0, "")] * len(made)
    assert {one["setting"] for one in made}.isdisjoint(one["setting"] for one in anew)
    assert removed == {"removed": [one["role"] for one in made]}
    assert database_roles.existing() == []


def test_a_part_is_told_of_no_database_url_but_its_own() -> None:
    variables = {
        "RELAY_DATABASE_URL": "owner",
        "RELAY_DATABASE_DIRECT_URL_FILE": "direct",
        "RELAY_DATABASE_URL_GATE": "gate",
        "RELAY_DATABASE_URL_WEB_FILE": "web",
        "RELAY_NODE": "node1",
    }

    told = {
        part: set(only_own(variables, part)) - {"RELAY_NODE"} for part in (*database_roles.PARTS, "beat", "command")
    }

    owners = {"RELAY_DATABASE_URL", "RELAY_DATABASE_DIRECT_URL_FILE"}
    assert told["gate"] == {"RELAY_DATABASE_URL_GATE"}
    assert told["web"] == {"RELAY_DATABASE_URL_WEB_FILE"}
    assert told["beat"] == set()
    assert told["worker"] == told["command"] == owners
