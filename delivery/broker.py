"""What Celery has to be told about a broker. Redis and Valkey need nothing; RabbitMQ gets quorum queues.

Publisher and worker must declare a queue alike, or RabbitMQ refuses the second (406 PRECONDITION_FAILED): so both take it
from here. Quorum queues are replicated and survive the loss of a node. They know no global prefetch, which Celery finds out
by itself, and no ETAs without help, of which we have none; a message's time to live needs RabbitMQ 3.10.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit


def is_amqp(broker_url: str) -> bool:
    return urlsplit(broker_url).scheme.startswith("amqp")


def queue_settings(broker_url: str) -> dict[str, Any]:
    """Settings of a Celery application that have to do with how its queues are declared."""
    if not is_amqp(broker_url):
        return {}
    return {
        "task_default_queue_type": "quorum",
        # Queues that are named with -Q or by a route are made when they are missing: as these.
        "task_create_missing_queue_type": "quorum",
        "worker_detect_quorum_queues": True,
    }
