"""What original reverse-paths are told: by whose wish, what stands in it, once, and never in answer to a machine."""

from __future__ import annotations

import email
from email.message import Message as Parsed
from typing import Any
from uuid import UUID

import pytest

from accounts.audit import Actor
from delivery import suppressions
from delivery.acceptance.accept import accept_submission
from delivery.acceptance.door import accept_from_thread
from delivery.acceptance.submission import Peer, Submission
from delivery.core.envelope import Envelope, parse_mail, parse_rcpt
from delivery.core.reports import Kind, read_report
from delivery.models import OwedDsn, SendingDomain
from delivery.reports import owed
from delivery.suppressions import Cause, Owner, read_target
from relayweb.processes.catalogues import compile_outdated
from tests.support.dns_server import FakeDns
from tests.support.engine_room import HOST, OTHER_HOST, RECORDS, Room, World, in_thread, mail
from tests.support.smtp_peer import EXTENSIONS, SmtpPeer

pytestmark = pytest.mark.usefixtures("safe_database", "own_door")

# The customer's own server, to which reports go.
HOME = {"acme.example": {"MX": ["10 mx.acme.example."]}, "mx.acme.example": {"A": [OTHER_HOST]}}
UNKNOWN = ["550 5.1.1 <bob@far.test>: no such user"]


@pytest.fixture(scope="module", autouse=True)
def _catalogues() -> None:
    compile_outdated()


def room_of(world: World) -> Room:
    return Room(world, dns=FakeDns({**RECORDS, **HOME}, ttl=1, negative_ttl=1))


def keep_reverse_paths(world: World) -> None:
    SendingDomain.objects.filter(tenant=world.cast.acme).update(keeps_reverse_path=True)


async def hand_over(
    room: Room,
    *recipients: str,
    of_mail: str = "",
    of_recipient: str = "",
    content: bytes | None = None,
    reverse_path: str = "shop@acme.example",
    **changes: Any,
) -> UUID:
    """As the gate does, from the commands of the envelope."""
    said = parse_mail(f"FROM:<{reverse_path}>{of_mail}".encode())
    envelope = Envelope(
        said.reverse_path,
        tuple(parse_rcpt(f"TO:<{one}>{of_recipient}".encode()) for one in recipients),  # type: ignore[misc]
        ret=said.ret,
        envid=said.envid,
    )
    submission = Submission(
        room.world.principal(**changes),
        envelope,
        mail() if content is None else content,
        Peer("192.0.2.7", "app.acme.example", "ESMTPSA"),
    )
    return await accept_submission(submission, store=room.store)


async def owed_rows(room: Room) -> list[tuple[str, str]]:
    rows = await room.rows("SELECT action, outcome FROM delivery_owed_dsn ORDER BY id")
    return [(row.action, row.outcome) for row in rows]


async def report_at(home: SmtpPeer) -> tuple[bytes, bytes]:
    """The first mail that reached the customer's server: its MAIL command and content."""
    await home.until(lambda: bool(home.connections and home.connections[0].contents))
    connection = home.connections[0]
    return next(one for one in connection.commands if one.startswith(b"MAIL")), connection.contents[0]


def part_of(content: bytes, media_type: str) -> Parsed:
    return next(part for part in email.message_from_bytes(content).walk() if part.get_content_type() == media_type)


def status_of(content: bytes, field: str) -> str | None:
    groups = part_of(content, "message/delivery-status").get_payload()
    return next((group[field] for group in groups if group[field] is not None), None)  # type: ignore[index,union-attr]


# ---------------------------------------------------------------- failures


async def test_a_failure_is_reported_to_a_kept_reverse_path(world: World) -> None:
    await in_thread(keep_reverse_paths, world)
    async with (
        room_of(world) as room,
        SmtpPeer(host=HOST, at_port=room.port, rcpt=UNKNOWN) as far,
        SmtpPeer(host=OTHER_HOST, at_port=room.port) as home,
        room.engine(),
    ):
        await hand_over(
            room,
            "bob@far.test",
            of_mail=" RET=HDRS ENVID=order+2B1",
            of_recipient=" ORCPT=rfc822;Bob+2B1@list.test",
        )

        said, content = await report_at(home)

    assert far.connections[0].commands[1].startswith(b"MAIL FROM:<shop@acme.example> SIZE=")
    assert said.startswith(b"MAIL FROM:<>")
    report = read_report(content)
    assert [(row.address, row.kind, row.status) for row in report.rows] == [("bob@far.test", Kind.BOUNCE, "5.1.1")]
    fields = email.message_from_bytes(content)
    assert (fields["Auto-Submitted"], fields["To"]) == ("auto-replied", "shop@acme.example")
    assert fields.get_param("report-type") == "delivery-status"
    assert status_of(content, "Original-Envelope-Id") == "order+1"
    assert status_of(content, "Original-Recipient") == "rfc822; Bob+1@list.test"
    assert status_of(content, "Remote-MTA") == "dns; mx.far.test"
    assert status_of(content, "Diagnostic-Code") == "smtp; 550 5.1.1 <bob@far.test>: no such user"
    assert "shop@acme.example" in part_of(content, "text/rfc822-headers").get_payload()
    text = part_of(content, "text/plain").get_payload(decode=True)
    assert isinstance(text, bytes)
    assert "配信できませんでした" in text.decode() and "could not be delivered" in text.decode()


async def test_ret_full_returns_the_mail_and_recipients_are_told_together(world: World) -> None:
    await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=UNKNOWN):
        async with room.engine() as running:
            message_id = await hand_over(room, "bob@far.test", "eve@far.test", of_mail=" RET=FULL")
            await room.until_state(message_id, "bounced")
            await running.stop()
        content = (await in_thread(written_reports))[0]

    assert {row.address for row in read_report(content).rows} == {"bob@far.test", "eve@far.test"}
    returned = part_of(content, "message/rfc822").get_payload()[0]  # type: ignore[index]
    assert returned["From"] == "shop@acme.example"  # type: ignore[index]
    assert "Good morning." in returned.get_payload()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("keeps", "notify", "actions"),
    [
        (False, "", []),
        (False, " NOTIFY=FAILURE", ["failed"]),
        (False, " NOTIFY=DELAY,SUCCESS", []),
        (True, "", ["failed"]),
        (True, " NOTIFY=NEVER", []),
        (True, " NOTIFY=SUCCESS", []),
    ],
)
async def test_failures_are_told_to_whom_they_matter(
    world: World, keeps: bool, notify: str, actions: list[str]
) -> None:
    if keeps:
        await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=UNKNOWN):
        async with room.engine():
            message_id = await hand_over(room, "bob@far.test", of_recipient=notify)
            await room.until_state(message_id, "bounced")

        assert [action for action, _ in await owed_rows(room)] == actions


async def test_mail_kept_back_at_acceptance_is_told_as_failed(world: World) -> None:
    async with room_of(world) as room:
        await in_thread(
            suppressions.add,
            Owner(world.cast.acme),
            read_target("bob@far.test"),
            Cause(suppressions.SuppressionReason.MANUAL),
            actor=Actor("alice@acme.example"),
        )
        await hand_over(room, "bob@far.test", of_recipient=" NOTIFY=FAILURE")

        content = (await in_thread(written_reports))[0]

    assert (status_of(content, "Action"), status_of(content, "Status")) == ("failed", "5.7.1")
    text = part_of(content, "text/plain").get_payload(decode=True)
    assert isinstance(text, bytes)
    assert "ここで送信を止めています" in text.decode() and "kept back here" in text.decode()


# ---------------------------------------------------------------- success, delay


@pytest.mark.parametrize(
    ("keeps", "extensions", "told"),
    [
        (True, EXTENSIONS, ["relayed"]),
        (True, (*EXTENSIONS, "DSN"), []),
        # Reports come to us there, so nothing is asked of the host and we tell ourselves.
        (False, (*EXTENSIONS, "DSN"), ["relayed"]),
    ],
)
async def test_success_is_told_unless_the_host_does(
    world: World, keeps: bool, extensions: tuple[str, ...], told: list[str]
) -> None:
    if keeps:
        await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, extensions=extensions) as far:
        async with room.engine():
            message_id = await hand_over(
                room, "bob@far.test", of_mail=" RET=HDRS ENVID=a+2Bb", of_recipient=" NOTIFY=SUCCESS,FAILURE"
            )
            await room.until_state(message_id, "delivered")

        assert [action for action, _ in await owed_rows(room)] == told

    commands = far.connections[0].commands
    passed_on = keeps and "DSN" in extensions
    assert any(one.endswith(b" RET=HDRS ENVID=a+2Bb") for one in commands) is passed_on
    assert (b"RCPT TO:<bob@far.test> NOTIFY=FAILURE,SUCCESS" in commands) is passed_on


async def test_a_delay_is_told_once_after_a_while_unless_it_is_over(world: World) -> None:
    await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=["451 4.3.0 later"]):
        fresh = await hand_over(room, "new@far.test")
        old = await hand_over(room, "bob@far.test")
        await room.rows(
            "UPDATE delivery_queue_entry SET accepted_at = now() - interval '5 h' WHERE message_id = %s", old
        )
        async with room.engine() as running:
            await room.until("SELECT bool_and(attempts >= 2) FROM delivery_recipient WHERE domain = 'far.test'")
            await running.stop()
        assert await room.value("SELECT count(*) FROM delivery_owed_dsn WHERE message_id = %s", fresh) == 0
        (content,) = await in_thread(written_reports)
        await room.rows("UPDATE delivery_recipient SET state = 'delivered' WHERE message_id = %s", old)
        await room.rows("UPDATE delivery_owed_dsn SET written_at = NULL, due_at = now()")
        await in_thread(owed.write_waiting)

        assert await owed_rows(room) == [("delayed", "overtaken")]
    assert (status_of(content, "Action"), status_of(content, "Status")) == ("delayed", "4.3.0")
    assert status_of(content, "Will-Retry-Until") is not None


# ---------------------------------------------------------------- once, and never to a machine


def written_reports() -> list[bytes]:
    """What waits is written; the contents of all reports there are by then."""
    from delivery import history
    from delivery.models import Message

    owed.write_waiting()
    reports = Message.objects.filter(reverse_path="", protocol="SYSTEM").order_by("id")
    return [content for one in reports if (content := history.content_of(one)) is not None]


async def test_a_report_is_written_once_whoever_dies_when(world: World) -> None:
    """Killed after the commit and before it was noted; then another finds it due again, together with a late-comer."""
    async with room_of(world) as room:
        message_id = await hand_over(room, "bob@far.test", "eve@far.test", of_recipient=" NOTIFY=FAILURE")
        bob, eve = await in_thread(_recipients, message_id)

        await in_thread(_owe, bob)
        (report_id,) = await in_thread(owed._claim)
        await in_thread(_accept_and_die, report_id)
        await in_thread(_owe, eve)
        await in_thread(_owe, bob)
        await room.rows("UPDATE delivery_owed_dsn SET due_at = now()")
        contents = await in_thread(written_reports)
        assert await room.value(
            "SELECT count(DISTINCT told_in) FROM delivery_owed_dsn JOIN delivery_message ON delivery_message.id = told_in"
        ) == len(contents)

    told = [row.address for content in contents for row in read_report(content).rows]
    assert sorted(told) == ["bob@far.test", "eve@far.test"]
    assert await in_thread(owed.write_waiting) == 0


def _recipients(message_id: UUID) -> list[Any]:
    from delivery.models import Recipient

    return list(Recipient.objects.filter(message_id=message_id).order_by("address"))


def _owe(recipient: Any) -> None:
    from delivery.models import OwedAction

    owed.owe(recipient, OwedAction.FAILED)


def _accept_and_die(report_id: UUID) -> None:
    submission = owed._submission(report_id, list(OwedDsn.objects.filter(report_id=report_id)))
    assert isinstance(submission, Submission)
    accept_from_thread(submission)


async def test_what_acceptance_refuses_waits_and_is_given_up_in_the_end(world: World) -> None:
    from delivery.models import DomainState

    def lapse(state: DomainState) -> None:
        SendingDomain.objects.filter(tenant=world.cast.acme).update(state=state)

    async with room_of(world) as room:
        message_id = await hand_over(room, "bob@far.test", of_recipient=" NOTIFY=FAILURE")
        (bob,) = await in_thread(_recipients, message_id)
        await in_thread(_owe, bob)
        await in_thread(lapse, DomainState.LAPSED)

        assert await in_thread(written_reports) == []
        assert await room.value("SELECT due_at > now() AND written_at IS NULL FROM delivery_owed_dsn")
        await room.rows("UPDATE delivery_owed_dsn SET due_at = now(), happened_at = now() - interval '6 days'")
        await in_thread(owed.write_waiting)

        assert await owed_rows(room) == [("failed", "given_up")]


AUTOMATIC = [
    ("shop@acme.example", "Auto-Submitted: auto-generated"),
    ("shop@acme.example", "auto-submitted: AUTO-REPLIED; owner=x"),
    ("shop@acme.example", "Precedence: bulk"),
    ("shop@acme.example", "Precedence: List"),
    ("shop@acme.example", "List-Id: <news.acme.example>"),
    ("", "Subject-Of-Test: the null reverse-path"),
]


async def test_machines_are_never_answered(world: World) -> None:
    await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=UNKNOWN):
        async with room.engine():
            messages = [
                await hand_over(
                    room,
                    f"bob{number}@far.test",
                    of_recipient=" NOTIFY=FAILURE,DELAY,SUCCESS",
                    content=mail(field),
                    reverse_path=reverse_path,
                    credential_use="mail-server",
                )
                for number in range(4)
                for reverse_path, field in AUTOMATIC
            ]
            await room.until("SELECT bool_and(state = 'bounced') FROM delivery_recipient")

        assert await owed_rows(room) == []
        assert await room.value("SELECT count(*) FROM delivery_message") == len(messages)


async def test_a_report_that_fails_is_not_reported_on(world: World) -> None:
    await in_thread(keep_reverse_paths, world)
    async with room_of(world) as room, SmtpPeer(host=HOST, at_port=room.port, rcpt=UNKNOWN):
        async with SmtpPeer(host=OTHER_HOST, at_port=room.port, rcpt=UNKNOWN), room.engine():
            await hand_over(room, "bob@far.test")
            await room.until("SELECT count(*) = 2 AND bool_and(state = 'bounced') FROM delivery_recipient")

        assert await owed_rows(room) == [("failed", "written")]
