"""An independent verifier of DKIM signatures (RFC 6376, Ed25519 by RFC 8463), for showing whether a mail's are right.

It shares no code with the product's signer. Keys come from a function that gives the TXT records of a name. A message
passes when one of its signatures does; a signature that cannot be used fails, and says why.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

MAX_SIGNATURES = 8
_MIN_RSA_BITS = 1024
_NEEDED_TAGS = ("v", "a", "b", "bh", "d", "h", "s")
_SIGNATURE_VALUE = re.compile(rb"(?P<before>(?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")

FindTexts = Callable[[str], Sequence[str]]


class UnusableSignatureError(ValueError):
    """Why a signature does not verify, in a few words."""


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    domain: str
    selector: str
    algorithm: str
    passes: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DkimVerdict:
    """`result` is pass, fail or none; `reason` says why."""

    result: str
    reason: str
    signatures: tuple[SignatureVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A header field as it stands: `raw` has name, colon, value and folding, without the final CRLF."""

    name: str
    raw: bytes

    @property
    def value(self) -> bytes:
        return self.raw.partition(b":")[2]


def split_message(content: bytes) -> tuple[list[Field], bytes]:
    """The header fields and the body. What is no field is left out."""
    if content.startswith(b"\r\n"):
        return [], content[2:]
    head, _, body = content.partition(b"\r\n\r\n")
    raw_fields = re.split(rb"\r\n(?![ \t])", head.removesuffix(b"\r\n"))
    named = [(raw.partition(b":")[0], raw) for raw in raw_fields if b":" in raw]
    return [Field(name.decode("ascii", "replace").rstrip(" \t").lower(), raw) for name, raw in named], body


def verify(content: bytes, find_texts: FindTexts, *, now: float | None = None) -> DkimVerdict:
    fields, body = split_message(content)
    signatures = [field for field in fields if field.name == "dkim-signature"][:MAX_SIGNATURES]
    if not signatures:
        return DkimVerdict("none", "the message is not signed")
    moment = time.time() if now is None else now
    verdicts = tuple(_judge(signature, fields, body, find_texts, moment) for signature in signatures)
    best = next((verdict for verdict in verdicts if verdict.passes), verdicts[0])
    reason = f"{best.reason} (d={best.domain} s={best.selector} a={best.algorithm})"
    return DkimVerdict("pass" if best.passes else "fail", reason, verdicts)


def _judge(
    signature: Field, fields: Sequence[Field], body: bytes, find_texts: FindTexts, now: float
) -> SignatureVerdict:
    tags: dict[str, str] = {}
    try:
        tags = _read_tags(signature.value)
        _check_tags(tags, now)
        _check_body(tags, body)
        key = _find_key(tags, find_texts)
        _check_signature(tags, key, _signed_octets(tags, signature, fields))
    except UnusableSignatureError as error:
        passes, reason = False, str(error)
    else:
        passes, reason = True, "the signature is valid"
    domain, selector = tags.get("d", ""), tags.get("s", "")
    return SignatureVerdict(domain, selector, tags.get("a", ""), passes, reason)


def _read_tags(value: bytes) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in value.decode("utf-8", "replace").split(";"):
        name, equals, content = part.partition("=")
        name = name.strip()
        if not equals:
            if part.strip():
                raise UnusableSignatureError("the list of tags is malformed")
            continue
        if name in tags:
            raise UnusableSignatureError(f"the tag {name} is given twice")
        tags[name] = content.strip()
    return tags


def _check_tags(tags: dict[str, str], now: float) -> None:
    for name in _NEEDED_TAGS:
        if not tags.get(name):
            raise UnusableSignatureError(f"the tag {name} is missing")
    if tags["v"] != "1":
        raise UnusableSignatureError("unknown version")
    if tags["a"] not in ("rsa-sha256", "ed25519-sha256"):
        raise UnusableSignatureError(f"the algorithm {tags['a']} is not accepted")
    if "from" not in _signed_names(tags):
        raise UnusableSignatureError("the From field is not signed")
    identity = tags.get("i", "@" + tags["d"]).rpartition("@")[2].lower()
    if identity != tags["d"].lower() and not identity.endswith("." + tags["d"].lower()):
        raise UnusableSignatureError("the identity (i=) is outside of the signing domain")
    expires = tags.get("x", "")
    if expires.isdecimal() and int(expires) < now:
        raise UnusableSignatureError("the signature has expired")


def _signed_names(tags: dict[str, str]) -> list[str]:
    return [name.strip().lower() for name in tags["h"].split(":")]


def _canonicalizations(tags: dict[str, str]) -> tuple[str, str]:
    header, _, body = tags.get("c", "simple/simple").partition("/")
    chosen = (header, body or "simple")
    if not set(chosen) <= {"simple", "relaxed"}:
        raise UnusableSignatureError("unknown canonicalization")
    return chosen


def _check_body(tags: dict[str, str], body: bytes) -> None:
    canonical = canonical_body(body, is_relaxed=_canonicalizations(tags)[1] == "relaxed")
    length = tags.get("l")
    if length is not None:
        if not length.isdecimal() or int(length) > len(canonical):
            raise UnusableSignatureError("the body is shorter than the signature says")
        canonical = canonical[: int(length)]
    if hashlib.sha256(canonical).digest() != _from_base64(tags["bh"]):
        raise UnusableSignatureError("the body has been changed")


def canonical_body(body: bytes, *, is_relaxed: bool) -> bytes:
    """RFC 6376 §3.4.3 and §3.4.4."""
    if is_relaxed:
        body = re.sub(rb"[ \t]+", b" ", body)
        body = body.replace(b" \r\n", b"\r\n")
        body = body.removesuffix(b" ") if not body.endswith(b"\r\n") else body
    end = len(body)
    while body[end - 2 : end] == b"\r\n" and end >= 2:
        end -= 2
    if end == 0 and is_relaxed:
        return b""
    return body[:end] + b"\r\n"


def canonical_field(raw: bytes, *, is_relaxed: bool) -> bytes:
    """RFC 6376 §3.4.1 and §3.4.2, without the final CRLF."""
    if not is_relaxed:
        return raw
    name, _, value = raw.partition(b":")
    unfolded = value.replace(b"\r\n", b"")
    return name.rstrip(b" \t").lower() + b":" + re.sub(rb"[ \t]+", b" ", unfolded).strip(b" \t")


def _signed_octets(tags: dict[str, str], signature: Field, fields: Sequence[Field]) -> bytes:
    is_relaxed = _canonicalizations(tags)[0] == "relaxed"
    left: dict[str, list[Field]] = {}
    for field in fields:
        left.setdefault(field.name, []).append(field)
    octets = b""
    for name in _signed_names(tags):
        # RFC 6376 §5.4.2: fields of a name are signed from the last to the first; a missing one is the null string.
        if left.get(name):
            octets += canonical_field(left[name].pop().raw, is_relaxed=is_relaxed) + b"\r\n"
    name_and_colon, _, value = signature.raw.partition(b":")
    without_value = name_and_colon + b":" + _SIGNATURE_VALUE.sub(lambda found: found["before"], value, count=1)
    return octets + canonical_field(without_value, is_relaxed=is_relaxed)


def _find_key(tags: dict[str, str], find_texts: FindTexts) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    name = f"{tags['s']}._domainkey.{tags['d']}"
    texts = find_texts(name)
    if not texts:
        raise UnusableSignatureError(f"there is no key at {name}")
    record = _read_tags(texts[0].encode())
    if record.get("v", "DKIM1") != "DKIM1":
        raise UnusableSignatureError(f"the record at {name} is not a DKIM key")
    if not record.get("p"):
        raise UnusableSignatureError(f"the key at {name} has been revoked")
    key_octets = _from_base64(record["p"])
    wanted = tags["a"].partition("-")[0]
    if record.get("k", "rsa") != wanted:
        raise UnusableSignatureError(f"the key at {name} is not a key for {wanted}")
    try:
        if wanted == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(key_octets)
        key = serialization.load_der_public_key(key_octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableSignatureError(f"the key at {name} cannot be read") from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_RSA_BITS:
        raise UnusableSignatureError(f"the key at {name} is no RSA key, or too short")
    return key


def _check_signature(tags: dict[str, str], key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey, octets: bytes) -> None:
    signature = _from_base64(tags["b"])
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, octets, padding.PKCS1v15(), hashes.SHA256())
        else:
            # RFC 8463 §3: Ed25519 signs the SHA-256 of the octets.
            key.verify(signature, hashlib.sha256(octets).digest())
    except InvalidSignature as error:
        raise UnusableSignatureError("the signature does not match the header fields") from error


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableSignatureError("base64 is malformed") from error
