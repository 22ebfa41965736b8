"""The parts of a whole relayweb stand in the database as what they are, and mail goes its way all the same."""

from __future__ import annotations

import json
from email.message import EmailMessage
from urllib.request import Request, urlopen

import psycopg
import pytest

from relayweb.processes.environment import role_password
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import State
from tests.acceptance.journey.conftest import Sender
from tests.support.stack import Stack, settled

CONNECTED = """
SELECT DISTINCT split_part(application_name, ' ', 2), usename FROM pg_stat_activity
WHERE application_name LIKE 'relayweb %' AND application_name <> 'relayweb command'
"""


@pytest.fixture
def postgres(stack: Stack) -> Postgres:
    return Postgres.of(State.open(stack.var))


def test_mail_flows_with_each_part_in_its_own_role(stack: Stack, acme: Sender, postgres: Postgres) -> None:
    to = "roles@accept.sandbox.test"
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = f"roles@{acme.domain}", to, "Roles"
    letter.set_content("Each in its own.")

    with stack.smtp(acme.username, acme.secret) as client:
        client.send_message(letter)
    rows = settled(stack, acme.slug, [to], seconds=30)
    with urlopen(f"http://127.0.0.1:{stack.ports['http']}/health/ready", timeout=10) as ready:
        is_ready = ready.status == 200
    with psycopg.connect(postgres.url()) as owner:
        connected = dict(owner.execute(CONNECTED).fetchall())

    assert (rows[to]["state"], is_ready) == ("delivered", True)
    assert {"gate", "worker", "web"} <= set(connected)
    assert connected == {part: f"relayweb_{part}" for part in connected}


def test_a_gate_that_was_taken_over_reads_nothing_else(stack: Stack, postgres: Postgres) -> None:
    """With the very password that the gate holds."""
    password = role_password(State.open(stack.var), "gate")

    with psycopg.connect(postgres.role_url("gate", password), autocommit=True) as gate:
        gate.execute("SELECT secret_sha256 FROM accounts_credential")
        for secret in ("SELECT password FROM accounts_user", "SELECT compressed FROM delivery_content"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                gate.execute(secret)


def test_the_api_takes_mail_in_the_role_of_the_web(stack: Stack, acme: Sender) -> None:
    key = stack.relay("credential", "issue", "--tenant", acme.slug, "--kind", "api", "--name", "roles")["secret"]
    body = {
        "from": f"roles@{acme.domain}",
        "to": ["api-roles@accept.sandbox.test"],
        "subject": "Roles",
        "text": "By HTTP.",
    }
    request = Request(
        f"http://127.0.0.1:{stack.ports['http']}/api/v1/messages",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )

    with urlopen(request, timeout=20) as answer:
        assert answer.status in {200, 201, 202}
    rows = settled(stack, acme.slug, ["api-roles@accept.sandbox.test"], seconds=30)

    assert rows["api-roles@accept.sandbox.test"]["state"] == "delivered"
