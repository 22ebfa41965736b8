"""The step before everything else: brings the database up to date and, in development, makes the demo tenant.

What the demo says (how to log in, a mail to try) goes to stdout, where the supervisor holds it until all is ready. Running
it again changes nothing. Two nodes that start at once take turns, by an advisory lock. A database on another machine may
come up after us: it is waited for. What a person has to change is said in sentences, and not tried again.
"""

from __future__ import annotations

import os
import sys
import time

import django

from relayweb.processes import environment, migrations
from relayweb.processes.postgres import Postgres
from relayweb.processes.state import State

# Any number of our own; nobody else takes session locks in this database at that moment.
_MIGRATION_LOCK = 7_235_901_122_518_770_001

_DATABASE_WITHIN_S = 60.0


def migrate() -> None:
    """Applies what is missing, and gives the parts' roles their rights. Raises Django's own errors."""
    from django.core.management import call_command
    from django.db import connection

    from relayweb.processes import database_roles  # needs Django

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        try:
            call_command("migrate", interactive=False, verbosity=0)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATION_LOCK])
    database_roles.bring_up_to_date()  # new tables have rights before a part looks at them


def make_embedded_roles(state: State) -> None:
    """With the passwords that the parts are told; they are ours, and so are the server and its roles."""
    from relayweb.processes import database_roles

    if environment.has_roles():
        passwords = {part: environment.role_password(state, part) for part in database_roles.PARTS}
        database_roles.make(passwords=passwords)


def check_configuration() -> None:
    """Ends the process with what is missing in production."""
    from django.core import checks

    found = [problem for problem in checks.run_checks() if problem.is_serious()]
    if found:
        for problem in found:
            print(f"relayweb cannot start: {problem.msg}{f' {problem.hint}' if problem.hint else ''}", file=sys.stderr)
        sys.exit(1)


def wait_for_the_database() -> None:
    from django.db import OperationalError, connection

    deadline = time.monotonic() + _DATABASE_WITHIN_S
    said = False
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            if time.monotonic() > deadline:
                sys.exit(f"relayweb cannot start: the database in RELAY_DATABASE_URL cannot be reached: {reason}")
            if not said:
                print(f"waiting for the database: {reason}", file=sys.stderr)
            said = True
            time.sleep(0.5)
        else:
            return


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")
    django.setup()
    from django.conf import settings

    if not settings.DEVELOPMENT:
        check_configuration()
    wait_for_the_database()
    state = State.open()
    embedded = Postgres.of(state) if os.environ.get("RELAY_DATABASE_IS_EMBEDDED") else None
    if embedded is None or not migrations.is_current(state, embedded):
        migrate()
        if embedded is not None:
            make_embedded_roles(state)
            migrations.remember(state, embedded)
    from accounts.audit import Actor
    from delivery import domains

    domains.ensure_own_domains(actor=Actor.system("prepare"))
    if settings.DEVELOPMENT:
        from relayweb.processes.demo import seed

        seed()
    return 0


if __name__ == "__main__":
    sys.exit(main())
