"""A dump of the database, read into an empty one, is the whole service as it was (docs/backup.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import dkim
import psycopg
from django.conf import settings

from accounts import authentication, database, sealing
from accounts.audit import Actor
from accounts.credentials import issue_credential
from accounts.identifiers import uuid7
from delivery.models import DkimKey, DkimKeyState, SendingDomain
from delivery.transport import signing
from relayweb.commandline.main import main
from relayweb.processes import throwaway
from relayweb.processes.postgres import Postgres
from tests.conftest import TEST_FOLDER
from tests.support.engine_room import HOST, Room, World, delivered, in_thread
from tests.support.smtp_peer import SmtpPeer

_OTHER = "relayweb_restored"


def _server() -> Postgres:
    server = throwaway.service("postgres", TEST_FOLDER)
    assert isinstance(server, Postgres)
    return server


def _url(name: str) -> str:
    return _server().url(name)


async def _run(program: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(_server().binaries[program], *words)
    assert await process.wait() == 0


async def _execute(sql: str) -> None:
    async with await psycopg.AsyncConnection.connect(_url("postgres"), autocommit=True) as connection:
        await connection.execute(sql)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def restored(dump: Path, name: str) -> AsyncIterator[None]:
    """Everything in this process uses the restored database meanwhile."""
    original = settings.DATABASES["default"]["NAME"]
    await _execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        await _run(
            "pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={_url(name)}", str(dump)
        )
        settings.DATABASES["default"]["NAME"] = name
        yield
    finally:
        settings.DATABASES["default"]["NAME"] = original
        await _execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _sign_for_acme() -> tuple[bytes, tuple[str, str]]:
    """The DNS record that proves Acme's signatures, and a login of Acme's."""
    private_key, key_id = signing.generate_key(), uuid7()
    domain = SendingDomain.objects.get(name="acme.example")
    DkimKey.objects.create(
        id=key_id,
        domain=domain,
        selector="s1",
        state=DkimKeyState.SIGNING,
        sealed_private_key=sealing.seal(private_key, context=DkimKey.sealing_context(key_id)),
    )
    issued = issue_credential(domain.tenant, kind="smtp", actor=Actor.command_line())
    return signing.public_record(private_key).encode(), (str(issued.credential.username), str(issued.secret))


async def test_a_restored_dump_knows_logins_signs_and_sends_what_had_not_left(world: World, tmp_path: Path):
    record, login = await in_thread(_sign_for_acme)
    dump, original = tmp_path / "relayweb.dump", str(settings.DATABASES["default"]["NAME"])
    async with Room(world) as room, SmtpPeer(host=HOST, at_port=room.port) as before:
        sent, waiting = await room.send("sent@far.test"), await room.send("waiting@far.test")
        await _run("pg_dump", "--format=custom", f"--dbname={_url(original)}", f"--file={dump}")
        await in_thread(main, ["message", "hold", str(waiting)])
        async with room.engine():
            await room.until_state(sent, "delivered")
        assert delivered(before) == 1

    async with (
        restored(dump, f"{_OTHER}_{original}"),
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port) as peer,
        database.pool(max_size=1, name="test") as pool,
    ):
        assert await authentication.authenticate_smtp(pool, *login, peer="192.0.2.7"), "the login does not work"
        for words in (
            ["queue", "sweep"],
            ["queue", "hold", "--all"],
            ["message", "cancel", "--ignore-unknown", str(sent), str(uuid7())],  # the logs know that this one left
            ["queue", "release", "--all", "--held-for", "operator"],
        ):
            assert await in_thread(main, words) == 0

        async with room.engine():
            await room.until_state(waiting, "delivered")

        assert (await room.recipient(sent)).state == "cancelled"
        (received,) = [content for connection in peer.connections for content in connection.contents]
        assert dkim.verify(received, dnsfunc=lambda name, timeout=5: record)
