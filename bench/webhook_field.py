"""The field of the webhook benchmarks: a throw-away database, tenants with mail, a receiver and a caller, a process each.

The receiver answers `200` to everything but paths below `/hang`, which it never answers; it notes when each event came.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

HOST = "127.0.0.1"


# ---------------------------------------------------------------- the receiver


class Receiving(asyncio.Protocol):
    """Just enough HTTP to answer quickly."""

    came: dict[str, float] = {}

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /came"):
            document = json.dumps(self.came).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(document) + document)
            return
        if head.startswith(b"post /hang"):
            return
        now = time.time()
        if body.startswith(b'{"type":"batch"'):
            for event in json.loads(body)["events"]:
                self.came.setdefault(event["id"], now)
        else:
            self.came.setdefault(body[7:43].decode(), now)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _receive(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Receiving, HOST, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def _call() -> None:
    from accounts.identifiers import uuid7
    from delivery.engine.ownership import WorkerIdentity
    from delivery.webhooks.caller import Caller

    caller = Caller(WorkerIdentity("bench/webhooks-1", uuid7(), "bench", "bench"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.stop)
    print("ready", flush=True)
    await caller.run()


# ---------------------------------------------------------------- the field


class Field:
    """What the benchmark's own process does: making tenants and events, asking what came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._caller: subprocess.Popen[str] | None = None

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.port}{path}"

    def came(self) -> dict[str, float]:
        with urllib.request.urlopen(self.url("/came"), timeout=60) as answer:
            found: dict[str, float] = json.load(answer)
            return found

    def make_tenant(self, name: str, *, path: str, most_in_a_call: int = 1, refuses: bool = False) -> UUID:
        from accounts.audit import Actor
        from accounts.models import Tenant
        from delivery import foundation
        from delivery.webhooks.endpoints import add_webhook

        tenant = Tenant.objects.create(slug=name, name=name)
        foundation.give_streams(tenant)
        add_webhook(
            tenant,
            url=f"http://{HOST}:9/" if refuses else self.url(path),  # nothing listens on port 9
            events=["delivered"],
            actor=Actor("bench"),
            most_in_a_call=most_in_a_call,
        )
        return tenant.id

    def make_mail(self, tenant_id: UUID, count: int) -> list[tuple[UUID, UUID]]:
        """So many messages with a recipient each; (message, recipient)."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                """WITH keys AS (SELECT gen_random_uuid() AS r, number FROM generate_series(1, %s) AS number),
                   timed AS (SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')
                                     || '7' || substr(replace(r::text, '-', ''), 14))::uuid AS id, number FROM keys),
                   mail AS (
                     INSERT INTO delivery_message (id, tenant_id, stream_id, accepted_at, expires_at, reverse_path, author,
                         author_domain, subject, header_message_id, size_bytes, recipient_count, body_type, needs_smtputf8,
                         dsn_ret, dsn_envid, protocol, peer_ehlo, is_test, tags, metadata, retention_days)
                     SELECT id, %s, (SELECT id FROM delivery_stream WHERE tenant_id = %s AND is_default), now(),
                         now() + interval '5 d', 'shop@acme.example', 'shop@acme.example', 'acme.example', 'Your order',
                         '<' || id || '@acme.example>', 4096, 1, '7BIT', false, '', '', 'ESMTPSA', 'app', false, '{}',
                         '{}', 7 FROM timed RETURNING id)
                   INSERT INTO delivery_recipient (id, message_id, tenant_id, address, domain, state, state_since, reason,
                         attempts, phase, reply, reply_class, action, scope, rule, host, has_ambiguous_attempt,
                         returned_class, dsn_notify, dsn_orcpt)
                   SELECT id, id, %s, 'r' || id || '@far.test', 'far.test', 'delivered', now(), '', 1, '', '', '', '', '', '',
                         '', false, '', '{}', '' FROM mail RETURNING message_id, id""",
                [count, tenant_id, tenant_id, tenant_id],
            )
            return [(row[0], row[1]) for row in cursor.fetchall()]

    def happen(self, tenant_id: UUID, mail: list[tuple[UUID, UUID]]) -> dict[str, float]:
        """A `delivered` for each, in one transaction, as a settlement writes them; when each was committed."""
        from django.db import connection

        from accounts.identifiers import uuid7

        keys = [uuid7() for _ in mail]
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO delivery_event (message_id, id, recipient_id, tenant_id, kind, occurred_at, data)
                   SELECT message_id, id, recipient_id, %s, 'delivered', now(),
                          '{"reply": "250 2.0.0 ok queued as 4F1", "attempt": 1, "host": "mx.far.test"}'
                   FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) AS row (message_id, id, recipient_id)""",
                [tenant_id, [one[0] for one in mail], keys, [one[1] for one in mail]],
            )
        now = time.time()
        return {str(key): now for key in keys}

    def start_caller(self) -> None:
        self._caller = _start("call")
        assert self._caller.stdout is not None
        self._caller.stdout.readline()

    def stop_caller(self) -> None:
        if self._caller is not None:
            self._caller.terminate()
            self._caller.wait(30)
            self._caller = None

    def wait_for(self, events: dict[str, float], *, seconds: float) -> dict[str, float]:
        """When each came. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            came = self.came()
            if len(came) >= len(events) and events.keys() <= came.keys():
                return came
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(events.keys() & came.keys())} of {len(events)} came")
            time.sleep(0.2)


@contextlib.contextmanager
def field() -> Iterator[Field]:
    folder = Path(tempfile.mkdtemp(prefix="webhook-bench-", dir="/tmp"))
    folder.chmod(0o711)
    from relayweb.processes import throwaway

    throwaway.ensure_running("postgres", folder, owner_pid=os.getpid())
    os.environ.update(
        {
            "RELAY_PROFILE": "development",
            "RELAY_PART": "command",
            "RELAY_VAR": str(folder / "var"),
            "RELAY_SECRET_KEY": "a key of a benchmark",
            "RELAY_ENCRYPTION_KEYS": f"bench:{base64.b64encode(bytes(32)).decode()}",
            "RELAY_TEST_PROFILE": "1",
            "RELAY_ALLOW_DESTINATIONS": "127.0.0.0/8",
            "RELAY_DATABASE_URL": throwaway.service("postgres", folder).url(),
            "RELAY_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "relayweb.settings",
        }
    )
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    receiver = _start("receive")
    assert receiver.stdout is not None
    found = Field(int(receiver.stdout.readline()))
    try:
        yield found
    finally:
        found.stop_caller()
        receiver.terminate()
        receiver.wait(10)


def _start(what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, what],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(what: str) -> None:
    import uvloop

    if what == "call":
        import django

        django.setup()
    uvloop.run(_call() if what == "call" else _receive(0))


if __name__ == "__main__":
    main(sys.argv[1])
