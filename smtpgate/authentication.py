"""AUTH PLAIN and LOGIN (RFC 4954, RFC 4616), under TLS alone, checked without holding up other sessions.

A failed login is answered late, and later with each further one from the same peer; a session gets few of them. The owner
of the credential is told, and is never locked out: the counts are those of the peer, not of the name.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from accounts import authentication
from accounts.authentication import Principal
from delivery.core import replies
from delivery.core.replies import Rejection
from smtpgate.boundary import loggable
from smtpgate.protocol import AUTH_OCTETS
from smtpgate.throttle import neighbourhood

if TYPE_CHECKING:
    from smtpgate.submission import SubmissionSession

log = structlog.get_logger(__name__)

_MECHANISMS = frozenset({b"PLAIN", b"LOGIN"})
# What clients expect to be asked, though no standard says so (draft-murchison-sasl-login).
_USERNAME_PROMPT = b"Username:"
_PASSWORD_PROMPT = b"Password:"


class Login(NamedTuple):
    username: str
    secret: str


async def authenticate(session: SubmissionSession, argument: bytes) -> None:
    """The AUTH command, already known to be allowed here. Raises Rejection."""
    words = argument.strip(b" \t").split(b" ")
    mechanism = words[0].upper()
    if not mechanism or len(words) > 2:
        raise Rejection(replies.BAD_SYNTAX)
    if mechanism not in _MECHANISMS:
        raise Rejection(replies.AUTHENTICATION_MECHANISM_UNKNOWN)
    peer = neighbourhood(session.address)
    if session.boundary.logins.are_too_many(peer, now=_now()):
        log.warning("login_refused", peer=session.address, reason="too_many_failures")
        raise Rejection(replies.TOO_MANY_FAILURES)
    initial = words[1] if len(words) == 2 else None
    login = await (_plain(session, initial) if mechanism == b"PLAIN" else _login(session, initial))
    await _check(session, login, peer=peer)


async def _check(session: SubmissionSession, login: Login, *, peer: str) -> None:
    if not session.store.is_ready:
        raise Rejection(replies.AUTHENTICATION_UNAVAILABLE)
    pool = session.store.pool
    try:
        principal = await authentication.authenticate_smtp(pool, login.username, login.secret, peer=session.address)
        owner = principal or await authentication.named(pool, login.username)
    except (psycopg.Error, PoolTimeout, OSError) as error:
        log.error("login_not_checked", peer=session.address, error=str(error))
        raise Rejection(replies.AUTHENTICATION_UNAVAILABLE) from None
    if principal is not None:
        session.logged_in(principal)
        session.reply(replies.AUTHENTICATED)
        return
    session.login_failures += 1
    delay = session.boundary.logins.note(peer, now=_now())
    log.warning(
        "login_failed",
        peer=session.address,
        username=loggable(login.username),
        tenant=owner.tenant_slug if owner else None,
        failures_in_session=session.login_failures,
    )
    rejection = Rejection(replies.AUTHENTICATION_FAILED)
    # Told while the peer waits anyway, so that the time it takes does not give away which names exist.
    await asyncio.gather(_tell_the_owner(session, owner, rejection), asyncio.sleep(delay))
    if session.login_failures >= session.limits.login_failures_per_session:
        session.reply(rejection.reply)
        raise Rejection(replies.TOO_MANY_FAILURES)
    raise rejection


async def _tell_the_owner(session: SubmissionSession, owner: Principal | None, rejection: Rejection) -> None:
    if owner is not None:
        await session.store.log_rejection(rejection, principal=owner, peer_address=session.address)


async def _plain(session: SubmissionSession, initial: bytes | None) -> Login:
    message = _decode(initial) if initial is not None else await _ask(session, b"")
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise Rejection(replies.AUTHENTICATION_MALFORMED)
    authorization, username, secret = (_text(part) for part in parts)
    if authorization not in ("", username):  # nobody acts for another
        return Login("", "")
    return Login(username, secret)


async def _login(session: SubmissionSession, initial: bytes | None) -> Login:
    username = _decode(initial) if initial is not None else await _ask(session, _USERNAME_PROMPT)
    secret = await _ask(session, _PASSWORD_PROMPT)
    return Login(_text(username), _text(secret))


async def _ask(session: SubmissionSession, challenge: bytes) -> bytes:
    session.ask(base64.b64encode(challenge).decode("ascii"))
    line = await session.read_line(AUTH_OCTETS)
    if line is None or not line.endswith(b"\r\n"):
        raise Rejection(replies.AUTHENTICATION_MALFORMED)
    answer = line[:-2]
    if answer == b"*":
        raise Rejection(replies.AUTHENTICATION_CANCELLED)
    return _base64(answer)


def _decode(initial: bytes) -> bytes:
    # RFC 4954 §4: an initial response of nothing is written "=".
    return b"" if initial == b"=" else _base64(initial)


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Rejection(replies.AUTHENTICATION_MALFORMED) from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejection(replies.AUTHENTICATION_MALFORMED) from None


def _now() -> float:
    return asyncio.get_running_loop().time()
