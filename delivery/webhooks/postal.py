"""The webhooks of Postal, for applications that were written for it, such as django-anymail's.

Postal has fewer events and signs with RSA: the receiver is given the public key. ``id`` of a message is the one that the
Postal-compatible door answers, the recipient's. Written after the behaviour of Postal's documented webhooks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from delivery.core import webhooks
from delivery.core.states import EventKind
from delivery.webhooks.told import Request, Told

_JSON = msgspec.json.Encoder()
_KEY_BITS = 2048
_BOUNCED = "MessageBounced"

# Event and status. What is final and not delivered is a hard failure there; it has no word for more.
_WORDS: dict[str, tuple[str, str]] = {
    EventKind.DELIVERED: ("MessageSent", "Sent"),
    EventKind.DEFERRED: ("MessageDelayed", "SoftFail"),
    EventKind.BOUNCED: ("MessageDeliveryFailed", "HardFail"),
    EventKind.EXPIRED: ("MessageDeliveryFailed", "HardFail"),
    EventKind.SUPPRESSED: ("MessageDeliveryFailed", "HardFail"),
    EventKind.CANCELLED: ("MessageDeliveryFailed", "HardFail"),
    EventKind.HELD: ("MessageHeld", "Held"),
    EventKind.RETURNED: (_BOUNCED, ""),
}


class Postal:
    can_batch = False
    events = tuple(kind.value for kind in EventKind if kind in _WORDS)

    def new_secret(self) -> str:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return pem.decode("ascii")

    def shown(self, secret: str) -> str:
        """The public key as bare base64, the form in which django-anymail takes it."""
        return base64.b64encode(_public_octets(secret)).decode("ascii")

    def request(self, events: Sequence[Told], *, secrets: Sequence[str], now: datetime) -> Request:
        """Signed with the current key alone: there is room for one signature."""
        (event,) = events
        body = _JSON.encode(_document(event))
        key = _key_of(secrets[0])
        headers = {
            "Content-Type": "application/json",
            # SHA-1 is what Postal's receivers check; the field beside it is for those who know better.
            "X-Postal-Signature": _signature(key, body, hashes.SHA1()),  # noqa: S303
            "X-Postal-Signature-256": _signature(key, body, hashes.SHA256()),
            "X-Postal-Signature-KID": hashlib.sha256(_public_octets(secrets[0])).hexdigest()[:32],
        }
        return Request(str(event.id), body, headers)


def _document(event: Told) -> dict[str, Any]:
    if event.kind == webhooks.TEST:
        return {"event": "WebhookTest", **_head(event), "payload": dict(event.data)}
    name, status = _WORDS[event.kind]
    message = _message(event)
    if name == _BOUNCED:
        bounce = {**message, "id": str(event.id), "direction": "incoming", "subject": str(event.data.get("reply", ""))}
        return {"event": name, **_head(event), "payload": {"original_message": message, "bounce": bounce}}
    payload = {
        "message": message,
        "status": status,
        "details": _details(event.kind, event.data),
        "output": event.data.get("reply", ""),
        "sent_with_ssl": None,
        "timestamp": event.occurred_at.timestamp(),
        "time": None,
    }
    return {"event": name, **_head(event), "payload": payload}


def _head(event: Told) -> dict[str, Any]:
    return {"timestamp": event.occurred_at.timestamp(), "uuid": str(event.id)}


def _message(event: Told) -> dict[str, Any]:
    message = event.message
    return {
        "id": str(event.subject_id),
        "token": event.subject_id.hex[-16:],
        "direction": "outgoing",
        "message_id": message.header_message_id.strip("<>") if message is not None else "",
        "to": event.recipient or "",
        "from": message.author if message is not None else "",
        "subject": message.subject if message is not None else "",
        "timestamp": message.accepted_at.timestamp() if message is not None else event.occurred_at.timestamp(),
        "spam_status": "NotChecked",
        "tag": message.tags[0] if message is not None and message.tags else None,
    }


def _details(kind: str, data: Mapping[str, Any]) -> str:
    match kind:
        case EventKind.DELIVERED:
            return f"Message accepted by {data.get('host', 'the receiving server')}"
        case EventKind.EXPIRED:
            return "Not accepted before its time was over"
        case EventKind.CANCELLED:
            return "Withdrawn"
        case _:
            return str(data.get("reason") or data.get("class") or kind)


def _signature(key: rsa.RSAPrivateKey, body: bytes, digest: hashes.HashAlgorithm) -> str:
    return base64.b64encode(key.sign(body, padding.PKCS1v15(), digest)).decode("ascii")


@lru_cache(maxsize=256)
def _key_of(pem: str) -> rsa.RSAPrivateKey:
    return cast(rsa.RSAPrivateKey, serialization.load_pem_private_key(pem.encode(), password=None))


def _public_octets(pem: str) -> bytes:
    return (
        _key_of(pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
