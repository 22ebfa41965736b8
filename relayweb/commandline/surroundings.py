"""Finds what the command line works on: the running server's environment, or the embedded database when none runs.

The person's own RELAY_ variables always win. Where neither a server runs nor a database is named, the embedded
database is started for the length of the command, under the lock that keeps a server from starting meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from relayweb.processes import environment
from relayweb.processes.state import Lock, State, StateError

_embedded: contextlib.ExitStack | None = None
_wants_embedded = False


def set_up_django() -> None:
    """Settings and tables can be used afterwards; the database is first needed by ``open_database``."""
    import django
    from django.apps import apps

    if apps.ready:
        return
    fill_environment()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")
    django.setup()


def fill_environment() -> None:
    global _wants_embedded
    os.environ.setdefault("RELAY_PART", "command")
    os.environ.setdefault("RELAY_LOG_LEVEL", "WARNING")  # stderr is for sentences here
    try:
        state = State.open()
    except StateError:
        # Not needed where everything is named; where something is missing, its reader says so.
        if environment.is_given("DATABASE_URL"):
            return
        raise
    running = state.running_environment()
    if running is not None:
        found = running
    else:
        _wants_embedded = not environment.is_given("DATABASE_URL")
        found = environment.fill_in(state, postgres=_postgres(state) if _wants_embedded else None, broker=None)
    for name, value in found.items():
        if not environment.is_given(name.removeprefix("RELAY_").removesuffix("_FILE")):
            os.environ[name] = value


def open_database() -> None:
    """Before the first query. Raises StateError with a sentence when the embedded database cannot be started."""
    global _embedded
    if not _wants_embedded or _embedded is not None:
        return
    state = State.open()
    with contextlib.ExitStack() as stack:
        stack.enter_context(Lock(state))
        postgres = _postgres(state)
        postgres.start()
        stack.callback(postgres.stop)
        stack.callback(_disconnect)
        _migrate_if_needed(state)
        _embedded = stack.pop_all()


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Stops what ``open_database`` started, however the command ends."""
    global _embedded
    try:
        yield
    finally:
        if _embedded is not None:
            _embedded.close()
            _embedded = None


def _postgres(state: State):  # type: ignore[no-untyped-def]
    from relayweb.processes.postgres import Postgres  # costs time that a running server spares

    return Postgres.of(state)


def _migrate_if_needed(state: State) -> None:
    from relayweb.processes import migrations, prepare

    postgres = _postgres(state)
    if not migrations.is_current(state, postgres):
        prepare.migrate()
        prepare.make_embedded_roles(state)
        migrations.remember(state, postgres)


def _disconnect() -> None:
    from django.db import connections

    connections.close_all()
