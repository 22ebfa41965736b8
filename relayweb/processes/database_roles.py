"""Database roles of the parts: each may do with the tables what its work needs, and no more (database_roles.toml).

Whoever takes over a gate by what it sends then reads no people, sessions or keys, and a returns listener can only add what
came in. Tables stay with the role that migrates; days are made and dropped by functions of its (delivery.partitions).

A role is named after database and part (`relayweb_gate`). Rights are brought to what is declared by the difference: after
every migration, and whenever somebody asks. Roles that do not exist are nobody's concern: then all parts connect as the
owner.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db import DatabaseError, connection, transaction
from psycopg import sql

PARTS = ("gate", "returns", "worker", "webhooks", "housekeeping", "web")
VERBS = ("select", "insert", "update", "delete")
# The rows that found no day are counted by name.
_COUNTS_STRAYS = ("housekeeping", "web")
_FUNCTIONS = ("make_day_partition(text, date)", "drop_day_partition(text)")
_CALLS_FUNCTIONS = "housekeeping"

# Two that bring rights up to date at once would meet at the same rows of the catalogue.
_ADVISORY_LOCK = 0x72656C61_726F6C65
_WORD = re.compile(r"(?P<verb>[a-z]+)(?:\((?P<columns>[a-z0-9_, ]+)\))?\s*")


class RolesError(Exception):
    """Why roles cannot be made or given rights, as a sentence."""


@dataclass(frozen=True, order=True)
class Right:
    """One verb on a table; ``column`` is empty for all of them."""

    role: str
    table: str
    verb: str
    column: str = ""


@dataclass(frozen=True)
class Made:
    """What was done for a part's role. ``password`` is told once, and only where a new one was set."""

    part: str
    role: str
    is_new: bool
    granted: int
    revoked: int
    password: str | None = None


@cache
def declared() -> Mapping[str, Mapping[str, str]]:
    """By table and part, as written."""
    written: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return written


def role_of(part: str) -> str:
    """Roles belong to a whole server: two installations on one have databases of different names."""
    return f"{connection.settings_dict['NAME']}_{part}"


def undeclared_tables() -> list[str]:
    """Tables of the database that no part was given or refused: their lines are missing."""
    return sorted(_tables() - set(declared()))


def existing() -> list[str]:
    """The parts that have a role."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [[role_of(part) for part in PARTS]])
        found = {name for (name,) in cursor.fetchall()}
    return [part for part in PARTS if role_of(part) in found]


def make(
    *, new_passwords: bool = False, with_passwords: bool = True, passwords: Mapping[str, str] | None = None
) -> list[Made]:
    """Makes the roles that are missing and gives each what is declared. Raises RolesError.

    A new role gets a password, unless the server is to know it in another way (certificates, peer). ``passwords`` are set
    as they are, by part.
    """
    there = set(existing())
    made = []
    with transaction.atomic():
        for part in PARTS:
            password = None
            if part not in there:
                _run(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(sql.Identifier(role_of(part))))
            if passwords is not None:
                _set_password(role_of(part), passwords[part])
            elif with_passwords and (new_passwords or part not in there):
                password = secrets.token_urlsafe(24)
                _set_password(role_of(part), password)
            made.append((part, part not in there, password))
        changed = bring_up_to_date()
    return [Made(part, role_of(part), is_new, *changed[part], password) for part, is_new, password in made]


def setting_of(made: Made) -> str:
    """The line for the part's environment; empty where its password did not change and so is not known here."""
    if made.password is None:
        return ""
    database = connection.settings_dict
    place = f"{database['HOST']}:{database['PORT']}".rstrip(":")
    query = ""
    if str(database["HOST"]).startswith("/") or not database["HOST"]:
        named = {"host": database["HOST"], "port": database["PORT"]}
        place, query = "", "&".join(f"{name}={quote(str(value), safe='/')}" for name, value in named.items() if value)
    url = f"postgresql://{made.role}:{made.password}@{place}/{quote(str(database['NAME']))}"
    return f"RELAY_DATABASE_URL_{made.part.upper()}={url}{'?' if query else ''}{query}"


def remove() -> list[str]:
    """Takes every right and the roles away; what is connected as one of them works on until it ends. Their names."""
    gone = []
    with transaction.atomic():
        for part in existing():
            role = sql.Identifier(role_of(part))
            _run(sql.SQL("GRANT {} TO CURRENT_USER").format(role))
            _run(sql.SQL("DROP OWNED BY {}").format(role))
            _run(sql.SQL("DROP ROLE {}").format(role))
            gone.append(role_of(part))
    return gone


def bring_up_to_date() -> dict[str, tuple[int, int]]:
    """Rights of the roles that exist, brought to what is declared: by part, how many were given and taken."""
    parts = existing()
    if not parts:
        return {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        wanted = _wanted(parts)
        taken = _present(parts) - wanted
        _change(taken, "REVOKE {} ON {} FROM {}")
        # Looked at again: a verb that was taken from a table was taken from its columns too.
        given = wanted - _present(parts)
        _change(given, "GRANT {} ON {} TO {}")
        _give_the_rest(parts)
    return {part: (_count(given, part), _count(taken, part)) for part in parts}


def _count(rights: Iterable[Right], part: str) -> int:
    return sum(right.role == role_of(part) for right in rights)


def who_is_connected() -> dict[str, set[str]]:
    """By part, the roles as which its processes are connected right now, as far as we may see."""
    found: dict[str, set[str]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT split_part(application_name, ' ', 2), usename FROM pg_stat_activity
               WHERE datname = current_database() AND application_name LIKE 'relayweb %%'""",
            [],
        )
        for part, role in cursor.fetchall():
            if part in PARTS:
                found[part].add(role)
    return dict(found)


# ---------------------------------------------------------------- what is wanted, what is there


def _tables() -> set[str]:
    """Without partitions: rights on a table reach its rows wherever they lie."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT relname FROM pg_class
               WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"""
        )
        return {name for (name,) in cursor.fetchall()}


def _wanted(parts: Iterable[str]) -> set[Right]:
    tables, wanted = _tables(), set()
    for part in parts:
        role = role_of(part)
        for table, by_part in declared().items():
            if table in tables:
                wanted |= {Right(role, table, verb, column) for verb, column in _read(by_part.get(part, ""))}
        if part in _COUNTS_STRAYS:
            wanted |= {Right(role, table, "select") for table in _default_partitions()}
    return wanted


def _read(written: str) -> Iterable[tuple[str, str]]:
    position = 0
    while position < len(written):
        word = _WORD.match(written, position)
        if word is None or word["verb"] not in VERBS:
            raise RolesError(f"database_roles.toml: {written!r} is no list of rights")
        for column in (word["columns"] or "").split(","):
            yield word["verb"], column.strip()
        position = word.end()


def _default_partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relispartition
               AND relkind = 'r' AND pg_get_expr(relpartbound, oid) = 'DEFAULT'"""
        )
        return [name for (name,) in cursor.fetchall()]


def _present(parts: Iterable[str]) -> set[Right]:
    roles = [role_of(part) for part in parts]
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH ours AS (SELECT oid, rolname FROM pg_roles WHERE rolname = ANY(%s)),
                    own AS (SELECT oid, relname, relacl FROM pg_class
                            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p'))
               SELECT ours.rolname, own.relname, lower(acl.privilege_type), ''
               FROM own, aclexplode(own.relacl) AS acl JOIN ours ON ours.oid = acl.grantee
               UNION ALL
               SELECT ours.rolname, own.relname, lower(acl.privilege_type), att.attname
               FROM own JOIN pg_attribute AS att ON att.attrelid = own.oid AND att.attacl IS NOT NULL,
                    aclexplode(att.attacl) AS acl JOIN ours ON ours.oid = acl.grantee""",
            [roles],
        )
        return {Right(*row) for row in cursor.fetchall()}


# ---------------------------------------------------------------- changing


def _change(rights: Iterable[Right], statement: str) -> None:
    """One statement for each table and role."""
    together: dict[tuple[bool, str, str], list[Right]] = defaultdict(list)
    for right in sorted(rights):
        together[bool(right.column), right.table, right.role].append(right)
    for (_is_of_columns, table, role), some in sorted(together.items()):
        words = sql.SQL(", ").join(
            sql.SQL(right.verb)
            if not right.column
            else sql.SQL("{} ({})").format(sql.SQL(right.verb), sql.Identifier(right.column))
            for right in some
        )
        _run(sql.SQL(statement).format(words, sql.Identifier(table), sql.Identifier(role)))


def _give_the_rest(parts: Iterable[str]) -> None:
    """Into the database and its schema, and what makes days; nobody else makes anything in the schema."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_schema(), current_database()")
        schema, database = (sql.Identifier(name) for name in cursor.fetchone())
        cursor.execute("SELECT has_schema_privilege('public', current_schema(), 'CREATE')")
        if cursor.fetchone()[0]:  # before PostgreSQL 15
            _run(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(schema))
        for part in parts:
            role = sql.Identifier(role_of(part))
            _run(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
            _run(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
            # A dump that was restored without its privileges has lost this.
            if part == _CALLS_FUNCTIONS:
                for function in _FUNCTIONS:
                    _run(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(sql.SQL(function)))
                for function in _FUNCTIONS:
                    _run(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), role))


def _set_password(role: str, password: str) -> None:
    """Only what the server keeps of it travels, so no log of statements ever holds it."""
    connection.ensure_connection()
    raw: Any = connection.connection
    hashed = raw.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    _run(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(hashed)))


def _run(statement: sql.Composed) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        who = connection.settings_dict["USER"] or "the user of RELAY_DATABASE_URL"
        said = str(error).strip().splitlines()[0]
        raise RolesError(
            f"{said} Roles are made by a role that may (ALTER ROLE {who} CREATEROLE, by an administrator of the server)."
        ) from error
