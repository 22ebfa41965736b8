"""DKIM signatures (RFC 6376, keys and hash as RFC 8301 asks): relaxed/relaxed, rsa-sha256.

The content must be in its final form: no bare CR or LF, no over-long line. The fields of `OVERSIGNED`, from whose
addition a replay or a forger could profit, are named once more than they occur: a second From, or a Subject where there
was none, breaks the signature. Signatures expire after `VALIDITY`, which bounds replay and outlives the queue.

`cryptography` holds the interpreter lock while signing; more signatures a second need more processes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from delivery.core.content import HeaderField

VALIDITY = timedelta(days=7)
KEY_BITS = 2048

# RFC 6376 §5.4.1 and §8.15; the List fields so that one-click unsubscription counts (RFC 8058 §4).
OVERSIGNED = (
    "From", "To", "Cc", "Subject", "Date", "Reply-To", "Message-ID",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID",
)  # fmt: skip
# Signed where present; others may rightly add them later.
SIGNED_IF_PRESENT = ("Sender", "In-Reply-To", "References", "List-ID")

_SIGNATURE_ALGORITHM = hashes.SHA256()
_SIGNATURE_PADDING = padding.PKCS1v15()
_MAX_LINE_CHARACTERS = 76
_BLANKS = re.compile(rb"[ \t]+")
_REVERSED_CRLFS = re.compile(rb"(?:\n\r)*")


class DkimSigner:
    """Signs for one domain with one selector; reads the key once. Raises `ValueError` for a key that is no RSA key."""

    def __init__(self, domain: str, selector: str, private_key_pem: bytes) -> None:
        self.domain = domain
        self.selector = selector
        self._private_key = _load(private_key_pem)

    def sign(self, fields: Sequence[HeaderField], body_hash: bytes, *, now: datetime) -> bytes:
        """The complete DKIM-Signature field with its CRLF, to be put in front of `fields`.

        `body_hash` comes from the function of that name; `now` needs a time zone.
        """
        signed_at = int(now.timestamp())
        signed_names, signed_fields = _select(fields)
        unsigned = _fold(
            [
                "v=1;", " a=rsa-sha256;", " c=relaxed/relaxed;",
                f" d={self.domain};", f" s={self.selector};",
                f" t={signed_at};", f" x={signed_at + int(VALIDITY.total_seconds())};",
                *_breakable_names(signed_names),
                *_breakable_base64(" bh=", body_hash), ";", " b=",
            ]
        )  # fmt: skip
        hashed = b"".join([*map(relaxed_field, signed_fields), relaxed_field(unsigned).removesuffix(b"\r\n")])
        signature = self._private_key.sign(hashed, _SIGNATURE_PADDING, _SIGNATURE_ALGORITHM)
        return unsigned.removesuffix(b"\r\n") + _fold_signature(signature, unsigned)


def body_hash(body: bytes | memoryview) -> bytes:
    """SHA-256 of the body in relaxed canonical form (RFC 6376 §3.4.4)."""
    return hashlib.sha256(relaxed_body(bytes(body))).digest()


def relaxed_body(body: bytes) -> bytes:
    """The relaxed canonical form; most bodies need only some of the steps, and each is one pass in C."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:  # each round halves the runs, so a permitted line needs ten at most
        body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    if not body.endswith(b"\r\n"):
        body = body.removesuffix(b" ") + b"\r\n"
    return _without_trailing_empty_lines(body)


def relaxed_field(raw: bytes) -> bytes:
    """One field in relaxed canonical form (RFC 6376 §3.4.2), with CRLF."""
    name, _, value = raw.partition(b":")
    unfolded = value.replace(b"\r\n", b"")
    return name.strip(b" \t").lower() + b":" + _BLANKS.sub(b" ", unfolded).strip(b" \t") + b"\r\n"


def generate_key() -> bytes:
    """A new RSA-2048 private key as unencrypted PKCS #8 PEM."""
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_record(pem: bytes) -> str:
    """The TXT record (RFC 6376 §3.6.1) that belongs to a private key."""
    public_key = _load(pem).public_key()
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode('ascii')}"


def _load(pem: bytes) -> rsa.RSAPrivateKey:
    private_key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise ValueError("a DKIM key must be an RSA key")
    return private_key


def _select(fields: Sequence[HeaderField]) -> tuple[list[str], list[bytes]]:
    """The names for h=, and the fields they stand for: of several of one name the lowest first (RFC 6376 §5.4.2)."""
    by_name: dict[str, list[bytes]] = {}
    for field in reversed(fields):
        by_name.setdefault(field.name.lower(), []).append(field.raw)
    names: list[str] = []
    selected: list[bytes] = []
    for name in OVERSIGNED + SIGNED_IF_PRESENT:
        present = by_name.get(name.lower(), [])
        names += [name] * (len(present) + (name in OVERSIGNED))
        selected += present
    return names, selected


def _without_trailing_empty_lines(body: bytes) -> bytes:
    end = len(body.rstrip(b"\r\n"))
    tail = body[end:]
    if tail != b"\r\n" * (len(tail) // 2):
        # Bare CR or LF belongs to the text; only the pairs after it are line endings.
        empty_lines = _REVERSED_CRLFS.match(tail[::-1])
        end = len(body) - (empty_lines.end() if empty_lines else 0)
    return body[: end + 2] if end else b""


# The tag list is folded between tags, between names of h=, and inside base64 (RFC 6376 §3.2 and §3.5 allow all three).


def _breakable_names(names: Sequence[str]) -> list[str]:
    return [f" h={names[0]}", *(f":{name}" for name in names[1:]), ";"]


def _breakable_base64(tag: str, octets: bytes) -> list[str]:
    encoded = base64.b64encode(octets).decode("ascii")
    return [tag + encoded[:40], encoded[40:]]


def _fold(pieces: Sequence[str]) -> bytes:
    lines = ["DKIM-Signature: "]
    for piece in pieces:
        if len(lines[-1]) + len(piece) > _MAX_LINE_CHARACTERS:
            lines.append("\t" + piece.lstrip(" "))
        else:
            lines[-1] += piece
    return "\r\n".join(lines).encode("ascii") + b"\r\n"


def _fold_signature(signature: bytes, unsigned: bytes) -> bytes:
    encoded = base64.b64encode(signature).decode("ascii")
    room_in_last_line = _MAX_LINE_CHARACTERS - (len(unsigned) - unsigned.rindex(b"\n", 0, -1) - 3)
    chunks = [encoded[:room_in_last_line]]
    rest = encoded[room_in_last_line:]
    width = _MAX_LINE_CHARACTERS - 1
    chunks += [rest[start : start + width] for start in range(0, len(rest), width)]
    return "\r\n\t".join(chunks).encode("ascii") + b"\r\n"
