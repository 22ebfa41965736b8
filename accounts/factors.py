"""Second factors: passkeys (WebAuthn), one-time passwords from an app (RFC 6238), recovery codes.

Whether a person has one stands with the person (``has_second_factor``), so that no page asks three tables. Each change is
audited. Recovery codes are no factor of their own: they stand in for a lost one and go when the last one goes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from accounts import audit, sealing
from accounts.audit import Actor
from accounts.models import OneTimePassword, Passkey, RecoveryCode, User
from accounts.refusals import NotFound, Refused

log = structlog.get_logger(__name__)

# RFC 6238 with what every authenticator app knows: SHA-1, six digits, steps of 30 seconds.
STEP_SECONDS = 30
DIGITS = 6
_STEPS_ASIDE = 1  # clocks of phones may be a step off (RFC 6238 §5.2)
RECOVERY_CODES = 10
MOST_PASSKEYS = 20
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"


# ---------------------------------------------------------------- one-time passwords


def new_secret() -> str:
    """160 bits (RFC 4226 §4), in base32 as apps take it."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def provisioning_uri(secret: str, *, account: str, issuer: str) -> str:
    """What the QR code says, in the format of authenticator apps (otpauth)."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}"


def code_at(secret: str, step: int) -> str:
    """RFC 4226 §5.3 over the time step of RFC 6238 §4."""
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", step), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: str, code: str, *, now: float | None = None) -> int | None:
    """The time step the code belongs to, if it is one that is taken now."""
    digits = "".join(code.split())
    current = int(now if now is not None else time.time()) // STEP_SECONDS
    found = None
    # Every step is looked at, so that the time does not tell which one fits.
    for step in range(current - _STEPS_ASIDE, current + _STEPS_ASIDE + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), digits.encode(errors="replace")):
            found = step
    return found


def set_one_time_password(user: User, secret: str, code: str, *, actor: Actor) -> None:
    """Raises Refused unless ``code`` shows that the app has the secret. Another app is replaced."""
    step = step_of(secret, code)
    if step is None:
        raise Refused(
            _("This code does not fit. Check that the clock of your phone is right, and type the newest code."),
            reason="code_wrong",
            field="code",
        )
    sealed = sealing.seal(secret.encode(), context=_context(user))
    with transaction.atomic():
        _row, is_new = OneTimePassword.objects.update_or_create(
            user=user,
            defaults={
                "secret_sealed": sealed, "last_step": step, "created_at": timezone.now(), "last_used_at": None,
            },
        )  # fmt: skip
        _keep_flag(user)
        _record(user, actor, "factor.add", {"kind": "one-time password", "replaces": not is_new})


def remove_one_time_password(user: User, *, actor: Actor) -> None:
    with transaction.atomic():
        if OneTimePassword.objects.filter(user=user).delete()[0]:
            _keep_flag(user)
            _record(user, actor, "factor.remove", {"kind": "one-time password"})


def check_code(user: User, code: str) -> bool:
    """A code from the app or a recovery code, each of which works once."""
    return _check_one_time_password(user, code) or _check_recovery_code(user, code)


def _check_one_time_password(user: User, code: str) -> bool:
    row = OneTimePassword.objects.filter(user=user).first()
    if row is None:
        return False
    try:
        secret = sealing.unseal(bytes(row.secret_sealed), context=_context(user)).decode()
    except sealing.SealingError as error:
        # A recovery code may still do; `relay doctor` tells operators which key is missing.
        log.error("one_time_password_cannot_be_opened", user=str(user.pk), error=str(error))
        return False
    step = step_of(secret, code)
    if step is None:
        return False
    # RFC 6238 §5.2: a code is taken once; the condition also decides between two browsers with the same code.
    changed = OneTimePassword.objects.filter(user=user, last_step__lt=step).update(
        last_step=step, last_used_at=timezone.now()
    )
    return bool(changed)


def reseal_one_time_passwords() -> int:
    """Seal them with the current key; returns how many were not. Raises SealingError at one whose key is not configured."""
    current = sealing.current_key_id().encode() + b"\0"
    count = 0
    for row in OneTimePassword.objects.select_related("user").order_by("pk"):
        sealed = bytes(row.secret_sealed)
        if not sealed.startswith(current):
            renewed = sealing.seal(sealing.unseal(sealed, context=_context(row.user)), context=_context(row.user))
            # Another value by now means that another app was set meanwhile, with the current key.
            count += OneTimePassword.objects.filter(pk=row.pk, secret_sealed=sealed).update(secret_sealed=renewed)
    return count


def _context(user: User) -> str:
    return f"one-time password {user.id.hex}"


# ---------------------------------------------------------------- recovery codes


def new_recovery_codes(user: User, *, actor: Actor) -> list[str]:
    """Ten new ones, to be shown once; former ones stop working."""
    codes = [
        "-".join("".join(secrets.choice(_READABLE) for _ in range(5)) for _ in range(2)) for _ in range(RECOVERY_CODES)
    ]
    with transaction.atomic():
        RecoveryCode.objects.filter(user=user).delete()
        RecoveryCode.objects.bulk_create(
            RecoveryCode(user=user, code_hmac=_code_hmacs(user, code)[0]) for code in codes
        )
        _record(user, actor, "factor.codes", {"count": len(codes)})
    return codes


def recovery_codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def _check_recovery_code(user: User, code: str) -> bool:
    folded = code.strip().lower()
    if not folded or len(folded) > 40:
        return False
    changed = RecoveryCode.objects.filter(user=user, code_hmac__in=_code_hmacs(user, folded), used_at=None).update(
        used_at=timezone.now()
    )
    return bool(changed)


def _code_hmacs(user: User, code: str) -> list[bytes]:
    """By every key that may have been used, the current one first. Who reads the database alone can try no codes."""
    plain = user.id.bytes + code.replace("-", "").replace(" ", "").encode(errors="replace")
    return [hmac.new(key, plain, hashlib.sha256).digest() for key in sealing.derived_keys("recovery codes")]


# ---------------------------------------------------------------- passkeys


@dataclass(frozen=True, slots=True)
class Site:
    """For whom a passkey is: the origin the browser is at, of which the host name is the relying party's id."""

    origin: str
    name: str

    @property
    def host(self) -> str:
        return urlsplit(self.origin).hostname or ""

    @property
    def may_have_passkeys(self) -> bool:
        """Browsers make none for an address without a name, and none over plain HTTP except on this machine."""
        is_name = not self.host.replace(".", "").isdigit() and ":" not in self.host
        return is_name and (self.origin.startswith("https://") or self.host == "localhost")

    def server(self) -> Fido2Server:
        return Fido2Server(
            PublicKeyCredentialRpEntity(id=self.host, name=self.name),
            verify_origin=lambda origin: origin == self.origin,
        )


def begin_passkey(user: User, *, site: Site) -> tuple[dict[str, Any], Any]:
    """The options for the browser, and the state to give back to ``add_passkey``."""
    if Passkey.objects.filter(user=user).count() >= MOST_PASSKEYS:
        raise Refused(_("You have {n} passkeys already; remove one first.").format(n=MOST_PASSKEYS), reason="too_many")
    options, state = site.server().register_begin(
        PublicKeyCredentialUserEntity(id=user.id.bytes, name=user.email, display_name=user.get_full_name()),
        credentials=[AttestedCredentialData(data) for data in _credential_data(user)],
        # Found by the browser without a name, and unlocked by finger, face or PIN: two factors in one.
        resident_key_requirement=ResidentKeyRequirement.REQUIRED,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return _plain(options), state


def add_passkey(user: User, *, name: str, answer: Mapping[str, Any], state: Any, site: Site, actor: Actor) -> Passkey:
    """Raises Refused for an answer that is none to these options."""
    try:
        binding = site.server().register_complete(state, RegistrationResponse.from_dict(dict(answer)))
    except _NOT_AN_ANSWER:
        raise _passkey_refused() from None
    credential = binding.credential_data
    if credential is None:
        raise _passkey_refused()
    try:
        with transaction.atomic():
            made = Passkey.objects.create(
                user=user,
                name=name.strip()[:60] or _("Passkey"),
                credential_id=credential.credential_id,
                credential_data=bytes(credential),
                sign_count=binding.counter,
            )
            _keep_flag(user)
            _record(user, actor, "factor.add", {"kind": "passkey", "name": made.name})
    except IntegrityError:
        raise _passkey_refused() from None
    return made


def remove_passkey(user: User, key: UUID, *, actor: Actor) -> Passkey:
    """Raises NotFound, also for somebody else's."""
    found = Passkey.objects.filter(user=user, pk=key).first()
    if found is None:
        raise NotFound(_("There is no such passkey."))
    with transaction.atomic():
        found.delete()
        _keep_flag(user)
        _record(user, actor, "factor.remove", {"kind": "passkey", "name": found.name})
    return found


def begin_passkey_check(*, site: Site) -> tuple[dict[str, Any], Any]:
    """For whoever is there: the browser offers the passkeys it has for this site, and no list of ours tells who has any."""
    options, state = site.server().authenticate_begin(user_verification=UserVerificationRequirement.REQUIRED)
    return _plain(options), state


def check_passkey(answer: Mapping[str, Any], *, state: Any, site: Site) -> User:
    """Whose passkey it is. Raises Refused."""
    try:
        response = AuthenticationResponse.from_dict(dict(answer))
        passkey = (
            Passkey.objects.select_related("user").filter(credential_id=response.raw_id, user__is_active=True).first()
        )
        if passkey is None:
            raise _passkey_refused()
        handle = response.response.user_handle
        if handle is not None and bytes(handle) != passkey.user.id.bytes:
            raise _passkey_refused()
        site.server().authenticate_complete(state, [AttestedCredentialData(bytes(passkey.credential_data))], response)
    except _NOT_AN_ANSWER:
        raise _passkey_refused() from None
    counter = response.response.authenticator_data.counter
    # WebAuthn §7.2 step 22: a counter that does not climb tells of a copy; 0 means that the authenticator has none.
    if (counter or passkey.sign_count) and counter <= passkey.sign_count:
        raise _passkey_refused()
    Passkey.objects.filter(pk=passkey.pk).update(sign_count=counter, last_used_at=timezone.now())
    return passkey.user


_NOT_AN_ANSWER = (ValueError, TypeError, KeyError, AttributeError)


def _passkey_refused() -> Refused:
    return Refused(_("This passkey was not accepted. Try again, or sign in another way."), reason="passkey_refused")


def _credential_data(user: User) -> list[bytes]:
    return [bytes(data) for data in Passkey.objects.filter(user=user).values_list("credential_data", flat=True)]


def _plain(options: Any) -> dict[str, Any]:
    """As JSON knows it, octets in base64url: what PublicKeyCredential.parse…OptionsFromJSON reads."""

    def octets(value: Any) -> str:
        return base64.urlsafe_b64encode(bytes(value)).rstrip(b"=").decode()

    return dict(json.loads(json.dumps(dict(options), default=octets)))["publicKey"]


# ---------------------------------------------------------------- all of them


def second_factors_of(user: User) -> list[str]:
    """Kinds the person can answer with: passkey, code."""
    kinds = []
    if Passkey.objects.filter(user=user).exists():
        kinds.append("passkey")
    if OneTimePassword.objects.filter(user=user).exists():
        kinds.append("code")
    return kinds


def _keep_flag(user: User) -> None:
    has_any = bool(second_factors_of(user))
    User.objects.filter(pk=user.pk).update(has_second_factor=has_any)
    user.has_second_factor = has_any
    if not has_any:
        RecoveryCode.objects.filter(user=user).delete()


def _record(user: User, actor: Actor, action: str, after: Mapping[str, Any]) -> None:
    audit.record(actor, action, object_id=user.id, object_name=user.email, after=after)
