"""Events on their way to webhooks: noted with what they tell, told in order, tried again, never in anybody's way."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from standardwebhooks import Webhook as Verifier

from accounts import credentials, database, tenants
from accounts.audit import Actor
from delivery.webhooks import endpoints, replay
from tests.support.engine_room import HOST, Room, World, in_thread
from tests.support.smtp_peer import SmtpPeer
from tests.support.webhook_receiver import OK, Call, Receiver, endless, hang, in_turn, status
from tests.support.webhook_room import ALICE, RunningCaller, add, calling, happen

OPEN = "SELECT count(*) FROM delivery_webhookevent"


@pytest.fixture(autouse=True)
def quick_webhooks(settings: Any) -> None:
    settings.WEBHOOK_RETRY_SCHEDULE = "1,1,2"
    settings.WEBHOOK_TIMEOUT_SECONDS = 1.0


async def _recipient_of(room: Room, message_id: UUID) -> UUID:
    return (await room.recipient(message_id)).id


# ---------------------------------------------------------------- what is told


async def test_the_journey_of_a_mail_is_told_signed_and_in_order(world: World):
    async with (
        Room(world) as room,
        SmtpPeer(host=HOST, at_port=room.port),
        Receiver() as receiver,
        room.engine(),
        calling(),
    ):
        _, secret = await add(room, receiver.url("/orders"))

        message_id = await room.send("someone@far.test")
        await receiver.until(lambda: len(receiver.calls) == 2)

        accepted, delivered = (call.document for call in receiver.calls)
        assert [accepted["type"], delivered["type"]] == ["accepted", "delivered"]
        assert list(delivered) == [
            "id", "type", "occurred_at", "tenant", "message", "recipient", "class", "reply", "data",
        ]  # fmt: skip
        assert delivered["tenant"] == {"id": str(world.cast.acme.id), "slug": "acme"}
        assert delivered["message"]["id"] == str(message_id)
        assert delivered["message"]["subject"] == "こんにちは"
        assert delivered["recipient"]["address"] == "someone@far.test"
        assert delivered["reply"].startswith("250 ")
        assert delivered["occurred_at"].endswith("Z")
        for call in receiver.calls:
            assert Verifier(secret).verify(call.body, call.headers)["id"] == call.id
        await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")


async def test_a_tenant_without_a_webhook_that_wants_it_costs_no_row(world: World):
    async with Room(world) as room, Receiver() as receiver:
        await add(room, receiver.url(), events=["bounced"])
        await add(room, receiver.url(), tenant=world.cast.globex)

        await room.send("someone@far.test")

        assert await room.value(OPEN) == 0


async def test_what_is_rolled_back_is_not_told(world: World):
    async with Room(world) as room, Receiver() as receiver:
        await add(room, receiver.url())
        message_id = await room.send("someone@far.test")
        before = await room.value(OPEN)

        with pytest.raises(ZeroDivisionError):
            async with room.connection.transaction():
                await happen(room, await _recipient_of(room, message_id), "deferred")
                raise ZeroDivisionError

        assert await room.value(OPEN) == before == 1


async def test_events_of_a_tenant_are_told_beside_those_of_mail(world: World):
    acme = world.cast.acme
    async with Room(world) as room, Receiver() as receiver, calling():
        await add(room, receiver.url())

        issued = await in_thread(credentials.issue_credential, acme, kind="smtp", actor=ALICE, name="shop")
        await in_thread(credentials.revoke_credential, issued.credential, actor=ALICE)
        await in_thread(tenants.suspend_tenant, acme, reason="complaints", actor=Actor.command_line())
        await in_thread(tenants.resume_tenant, acme, actor=Actor.command_line())
        await receiver.until(lambda: len(receiver.calls) == 4)

        told = {call.document["type"]: call.document for call in receiver.calls}
        assert set(told) == {"credential.created", "credential.revoked", "tenant.paused", "tenant.resumed"}
        assert told["credential.created"]["data"]["name"] == "shop"
        assert told["tenant.paused"]["data"]["reason"] == "complaints"
        assert told["tenant.paused"]["message"] is None
        assert issued.secret not in "".join(call.body.decode() for call in receiver.calls)


async def test_another_tenants_events_are_not_told(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        await add(room, receiver.url("/acme"))
        await add(room, receiver.url("/globex"), tenant=world.cast.globex)

        await room.send("someone@far.test")
        await room.send_as_globex("other@far.test")
        await receiver.until(lambda: len(receiver.calls) == 2)

        assert {call.path: call.document["tenant"]["slug"] for call in receiver.calls} == {
            "/acme": "acme",
            "/globex": "globex",
        }


# ---------------------------------------------------------------- order and trying again


@pytest.mark.parametrize("is_written", [False, True], ids=["under way", "written down"])
async def test_a_failing_event_holds_later_ones_of_its_recipient_and_nobody_elses(
    world: World, settings: Any, is_written: bool
):
    settings.WEBHOOK_RETRY_SCHEDULE = "2,2"
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = in_turn(status(500), OK)
        await add(room, receiver.url("/"), events=["deferred", "delivered"])
        first = await _recipient_of(room, await room.send("first@far.test"))
        other = await _recipient_of(room, await room.send("other@far.test"))

        await happen(room, first, "deferred")
        await receiver.until(lambda: len(receiver.calls) == 1)
        if is_written:
            await room.until("SELECT calls = 1 FROM delivery_webhookevent")
        await happen(room, first, "delivered")
        await happen(room, other, "delivered")
        await receiver.until(lambda: len(receiver.calls) == 4)

        told = [(call.document["recipient"]["address"].split("@")[0], call.document["type"]) for call in receiver.calls]
        assert told[:2] == [("first", "deferred"), ("other", "delivered")]
        assert told[2:] == [("first", "deferred"), ("first", "delivered")]


async def test_what_is_read_while_a_call_fails_stays_behind_it(world: World, settings: Any):
    settings.WEBHOOK_TIMEOUT_SECONDS = 10.0
    may_fail = asyncio.Event()

    async def fail_later(call: Call, writer: asyncio.StreamWriter) -> None:
        await may_fail.wait()
        await status(500)(call, writer)

    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = in_turn(fail_later, OK)
        await add(room, receiver.url("/"), events=["deferred", "delivered"])
        recipient = await _recipient_of(room, await room.send("first@far.test"))
        await happen(room, recipient, "deferred")
        await receiver.until(lambda: len(receiver.calls) == 1)

        async with await database.connect() as holder, holder.transaction():
            await holder.execute("LOCK TABLE delivery_message IN ACCESS EXCLUSIVE MODE")
            await happen(room, recipient, "delivered")
            await room.until_somebody_waits_for_a_lock()  # the caller, for the mail that the second event is about
            may_fail.set()
            await room.until("SELECT bool_or(calls = 1) FROM delivery_webhookevent")
        await receiver.until(lambda: len(receiver.calls) == 3)

        assert [call.document["type"] for call in receiver.calls] == ["deferred", "deferred", "delivered"]


async def test_a_retry_has_the_same_id_and_body_and_a_fresh_signature(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = in_turn(status(503), status(500), OK)
        _, secret = await add(room, receiver.url("/"), events=["accepted"])

        await room.send("someone@far.test")
        await receiver.until(lambda: len(receiver.calls) == 3)

        first, *others = receiver.calls
        for call in others:
            assert call.id == first.id
            assert call.body == first.body
            Verifier(secret).verify(call.body, call.headers)
        assert first.headers["webhook-timestamp"] < receiver.calls[2].headers["webhook-timestamp"]
        numbers = await room.rows("SELECT number, outcome, status FROM delivery_webhookcall ORDER BY id")
        assert [tuple(row) for row in numbers[:2]] == [(1, "status", 503), (2, "status", 500)]


async def test_an_event_that_is_never_taken_is_dead_and_can_be_replayed(world: World, settings: Any):
    settings.WEBHOOK_RETRY_SCHEDULE = "1"
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = in_turn(status(500), status(500), OK)
        webhook, _ = await add(room, receiver.url("/"), events=["accepted"])
        await room.send("someone@far.test")

        await room.until("SELECT count(*) FROM delivery_webhookevent WHERE died_at IS NOT NULL")
        count = await in_thread(replay.replay_dead, webhook, actor=ALICE)
        await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")

        assert count == 1
        assert len({call.id for call in receiver.calls}) == 1
        assert len(receiver.calls) == 3


async def test_a_batch_tells_many_and_keeps_the_order_of_each_recipient(world: World):
    async with Room(world) as room, Receiver() as receiver:
        _, secret = await add(room, receiver.url(), events=["accepted", "deferred", "delivered"], most_in_a_call=10)
        recipients = [await _recipient_of(room, await room.send(f"r{number}@far.test")) for number in range(4)]
        for recipient in recipients:
            await happen(room, recipient, "deferred", "delivered")

        async with calling():
            await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")

        assert max(len(call.document["events"]) for call in receiver.calls) == 10
        told: dict[str, list[str]] = {}
        for call in receiver.calls:
            assert Verifier(secret).verify(call.body, call.headers)["id"] == call.id
            for event in call.document["events"]:
                told.setdefault(event["recipient"]["address"], []).append(event["type"])
        assert set(map(tuple, told.values())) == {("accepted", "deferred", "delivered")}
        assert len(told) == 4


async def test_a_caller_that_dies_mid_call_is_followed_by_one_that_calls_with_the_same_id(world: World):
    async with Room(world) as room, Receiver() as receiver:
        receiver.answers["/"] = in_turn(hang, OK)
        await add(room, receiver.url("/"), events=["accepted"])
        dying = RunningCaller("webhooks-1")
        await room.send("someone@far.test")
        await receiver.until(lambda: len(receiver.calls) == 1)
        await dying.kill()

        async with calling("webhooks-2"):  # another slot: it must wait for the lease to end
            await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")

        assert len(receiver.calls) == 2
        assert receiver.calls[0].id == receiver.calls[1].id


async def test_two_callers_share_the_webhooks_and_tell_nothing_twice(world: World):
    async with Room(world) as room, Receiver() as receiver, calling("webhooks-1"), calling("webhooks-2"):
        for number in range(6):
            await add(room, receiver.url(f"/{number}"), events=["accepted"])

        for number in range(10):
            await room.send(f"r{number}@far.test")
        await receiver.until(lambda: len(receiver.calls) >= 60)
        await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")

        assert len(receiver.calls) == 60


# ---------------------------------------------------------------- endpoints that misbehave


async def test_410_disables_and_says_so(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = status(410)
        await add(room, receiver.url("/"), events=["accepted"])

        await room.send("someone@far.test")

        await room.until("SELECT state = 'disabled' FROM delivery_webhook")
        row = (await room.rows("SELECT disabled_reason, is_notice_due FROM delivery_webhook"))[0]
        assert tuple(row) == ("gone", True)
        await room.send("later@far.test")
        assert await room.value(OPEN) == 1  # only what waited


async def test_long_failure_disables(world: World, settings: Any):
    settings.WEBHOOK_DISABLE_AFTER_SECONDS = 1
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = status(500)
        await add(room, receiver.url("/"), events=["accepted"])

        await room.send("someone@far.test")

        await room.until("SELECT state = 'disabled' AND disabled_reason = 'failing' FROM delivery_webhook")


async def test_an_endpoint_that_fails_again_and_again_rests(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = status(500)
        await add(room, receiver.url("/"), events=["accepted"])

        for number in range(8):
            await room.send(f"r{number}@far.test")
        await room.until("SELECT resting_until > now() FROM delivery_webhook")
        await room.until("SELECT owner = '' FROM delivery_webhook")

        assert len(receiver.calls) <= 7  # five failures, and what was under way
        assert await room.value("SELECT failures FROM delivery_webhook") >= 5


async def test_a_redirect_is_not_followed(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = status(302, Location=receiver.url("/elsewhere"))
        await add(room, receiver.url("/"), events=["accepted"])

        await room.send("someone@far.test")
        await room.until("SELECT count(*) FROM delivery_webhookcall WHERE outcome = 'redirect'")

        assert receiver.at("/elsewhere") == []


async def test_a_slow_endpoint_is_given_up_and_an_endless_answer_cut(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers.update({"/slow": hang, "/endless": endless})
        await add(room, receiver.url("/slow"), events=["accepted"])
        await add(room, receiver.url("/endless"), events=["accepted"])

        await room.send("someone@far.test")
        await room.until("SELECT count(*) FROM delivery_webhookcall WHERE outcome = 'timeout'")
        await room.until("SELECT count(*) FROM delivery_webhookcall WHERE outcome = 'ok'")

        row = (await room.rows("SELECT * FROM delivery_webhookcall WHERE outcome = 'ok'"))[0]
        assert row.is_body_cut
        assert len(row.response_body) <= 8192


async def test_dead_endpoints_do_not_delay_others(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/dead"] = hang
        for _ in range(10):
            await add(room, receiver.url("/dead"), tenant=world.cast.globex)
        await add(room, receiver.url("/good"), events=["accepted"])
        for number in range(5):
            await room.send_as_globex(f"r{number}@far.test")
        await receiver.until(lambda: len(receiver.at("/dead")) >= 20)

        before = asyncio.get_running_loop().time()
        await room.send("someone@far.test")
        await receiver.until(lambda: len(receiver.at("/good")) == 1)

        assert asyncio.get_running_loop().time() - before < 0.9  # the dead ones take a second each


# ---------------------------------------------------------------- by hand


async def test_a_test_call_is_made_once_also_to_a_disabled_webhook(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        webhook, secret = await add(room, receiver.url())
        await in_thread(endpoints.disable_webhook, webhook, actor=ALICE)

        test_id = await in_thread(endpoints.request_test, webhook, actor=ALICE)
        await receiver.until(lambda: receiver.calls)

        assert receiver.calls[0].document["type"] == "webhook.test"
        assert receiver.calls[0].id == str(test_id)
        Verifier(secret).verify(receiver.calls[0].body, receiver.calls[0].headers)
        await room.until("SELECT test_id IS NULL FROM delivery_webhook")
        assert await room.value("SELECT state FROM delivery_webhook") == "disabled"


async def test_postals_receivers_are_called_as_postal_calls_them(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        _, public_key = await add(
            room, receiver.url(), events=["delivered", "bounced", "returned"], form="postal", most_in_a_call=10
        )
        message_id = await room.send("someone@far.test")
        recipient = await _recipient_of(room, message_id)

        await happen(room, recipient, "delivered", reply="250 2.0.0 ok", host="mx.far.test")
        await happen(room, recipient, "returned", reply="550 5.1.1 gone", **{"class": "bad_mailbox"})
        await receiver.until(lambda: len(receiver.calls) == 2)

        sent, bounced = receiver.calls
        assert sent.document["event"] == "MessageSent"
        assert sent.document["payload"]["status"] == "Sent"
        assert sent.document["payload"]["output"] == "250 2.0.0 ok"
        assert sent.document["payload"]["message"]["id"] == str(recipient)
        assert sent.document["payload"]["message"]["to"] == "someone@far.test"
        assert bounced.document["event"] == "MessageBounced"
        assert bounced.document["payload"]["original_message"]["id"] == str(recipient)
        key = load_der_public_key(b64decode(public_key))
        assert isinstance(key, RSAPublicKey)
        for call in receiver.calls:
            key.verify(b64decode(call.headers["x-postal-signature"]), call.body, PKCS1v15(), SHA1())
            key.verify(b64decode(call.headers["x-postal-signature-256"]), call.body, PKCS1v15(), SHA256())


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_while(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        webhook, old = await add(room, receiver.url(), events=["accepted"])
        await room.send("before@far.test")
        await receiver.until(lambda: len(receiver.calls) == 1)

        new = await in_thread(endpoints.rotate_secret, webhook, actor=ALICE)
        await room.send("between@far.test")
        await receiver.until(lambda: len(receiver.calls) == 2)
        newest = await in_thread(endpoints.rotate_secret, webhook, actor=ALICE, overlap=timedelta(0))
        await room.send("after@far.test")
        await receiver.until(lambda: len(receiver.calls) == 3)

        between, after = receiver.calls[1:]
        for secret in (old, new):
            Verifier(secret).verify(between.body, between.headers)
        Verifier(newest).verify(after.body, after.headers)
        assert len(after.headers["webhook-signature"].split()) == 1


async def test_a_period_is_replayed_with_the_same_ids(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        webhook, _ = await add(room, receiver.url(), events=["accepted", "delivered", "credential.created"])
        since = await room.value("SELECT now()")
        await in_thread(credentials.issue_credential, world.cast.acme, kind="smtp", actor=ALICE)
        recipient = await _recipient_of(room, await room.send("someone@far.test"))
        await happen(room, recipient, "deferred", "delivered")
        await room.send_as_globex("other@far.test")
        await receiver.until(lambda: len(receiver.calls) == 3)
        await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")
        until = await room.value("SELECT now() + interval '1 s'")

        count = await in_thread(replay.replay_period, webhook, since=since, until=until, actor=ALICE)
        await receiver.until(lambda: len(receiver.calls) == 6)

        assert count == 3
        assert {call.id for call in receiver.calls[:3]} == {call.id for call in receiver.calls[3:]}
        of_mail = [call.document["type"] for call in receiver.calls[3:] if call.document["message"]]
        assert of_mail == ["accepted", "delivered"]


async def test_a_webhook_that_was_enabled_again_goes_on_with_what_waited(world: World):
    async with Room(world) as room, Receiver() as receiver, calling():
        receiver.answers["/"] = in_turn(status(410), OK)
        webhook, _ = await add(room, receiver.url("/"), events=["accepted"])
        await room.send("someone@far.test")
        await room.until("SELECT state = 'disabled' FROM delivery_webhook")

        await in_thread(endpoints.enable_webhook, webhook, actor=ALICE)
        await room.rows("UPDATE delivery_webhookevent SET next_call_at = now()")

        await room.until("SELECT count(*) = 0 FROM delivery_webhookevent")
        assert receiver.calls[0].id == receiver.calls[1].id
