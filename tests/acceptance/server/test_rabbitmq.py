"""The whole of relayweb with RabbitMQ as its broker: quorum queues, and a broker that dies costs no mail."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rabbitmq
from tests.support.ports import find_free_ports
from tests.support.rabbitmq import RabbitMq
from tests.support.stack import Stack, settled
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(rabbitmq.why_not()), reason=rabbitmq.why_not() or "-")

SENDER = "shop@demo.relay.test"


@pytest.fixture
def broker() -> Iterator[RabbitMq]:
    base = Path(tempfile.mkdtemp(prefix="relayweb-rabbit-", dir="/tmp"))
    base.chmod(0o711)
    broker = RabbitMq(base / "node")
    broker.start()
    yield broker
    broker.remove()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def stack(broker: RabbitMq) -> Iterator[Stack]:
    var = Path(tempfile.mkdtemp(prefix="relayweb-rabbit-", dir="/tmp"))
    var.chmod(0o711)
    stack = Stack.make(
        var / "var",
        lambda: find_free_ports(1)[0],
        RELAY_PROFILE="development",
        RELAY_BROKER_URL=broker.url,
        RELAY_NODE="node1",
        RELAY_GATE_PROCESSES="1",
        RELAY_WORKER_PROCESSES="1",
    )
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(var, ignore_errors=True)


def test_mail_flows_over_quorum_queues_and_while_the_broker_is_dead(broker: RabbitMq, stack: Stack) -> None:
    [tenant] = [row["slug"] for row in stack.relay("tenant", "list") if not row["is_system"]]
    demo = json.loads((stack.var / "demo.json").read_text())

    def send(recipient: str) -> None:
        with stack.smtp(demo["smtp_username"], demo["smtp_secret"]) as client:
            client.sendmail(SENDER, [recipient], f"From: {SENDER}\r\nSubject: by RabbitMQ\r\n\r\nGood morning.\r\n")

    send("first@accept.sandbox.test")
    first = settled(stack, tenant, ["first@accept.sandbox.test"], seconds=30)
    queues = ("egress.node1", "housekeeping", "reports", "webhooks")
    until(lambda: all(rabbitmq.consumers_of(broker.url, queue) for queue in queues), seconds=30, what="consumers")
    kinds = {queue: rabbitmq.kind_of(broker.url, queue) for queue in queues}
    broker.kill()
    send("second@accept.sandbox.test")
    second = settled(stack, tenant, ["second@accept.sandbox.test"], seconds=30)
    broker.start()
    until(lambda: all(rabbitmq.consumers_of(broker.url, queue) for queue in queues), seconds=60, what="consumers again")
    send("third@accept.sandbox.test")
    third = settled(stack, tenant, ["third@accept.sandbox.test"], seconds=30)

    assert kinds == dict.fromkeys(queues, "quorum")
    assert {row["state"] for rows in (first, second, third) for row in rows.values()} == {"delivered"}
    assert not [line for line in stack.log if "PRECONDITION" in line or "NOT_IMPLEMENTED" in line]
