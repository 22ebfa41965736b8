"""The service's letters to people: what they say, in the reader's language, and their way out.

A letter is worded while the request is answered and handed to ``EMAIL_BACKEND`` by another thread after that: an answer
must not take longer because there was somebody to write to. What is lost with a process that dies is asked for again by
its reader; what cannot be handed over is logged. Letters about security never hold a secret, only when and from where.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import get_language, gettext, override

from accounts.models import Invitation, SignUp, User

logger = logging.getLogger("relayweb.letters")

_post = ThreadPoolExecutor(max_workers=2, thread_name_prefix="letters")
_under_way: set[Future[None]] = set()


@dataclass(frozen=True, slots=True)
class Letter:
    """One link at most, on a line of its own; paragraphs after it say how long it works and what if it was not you."""

    subject: str
    paragraphs: tuple[str, ...]
    link: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """From where something was done: told in letters about security."""

    peer_address: str = ""
    browser: str = ""


# ---------------------------------------------------------------- what they say


def confirm_sign_up(sign_up: SignUp, *, link: str) -> Letter:
    return Letter(
        gettext("Confirm your e-mail address"),
        (
            gettext(
                "You, or someone, signed up for {service} with this address. Open the page and press “Confirm”."
            ).format(service=settings.SERVICE_NAME),
        ),
        link,
        (
            gettext("It works until {expiry}.").format(expiry=_moment(sign_up.expires_at, sign_up.time_zone)),
            gettext("If it was not you, do nothing: no account is made."),
        ),
    )


def already_known(*, sign_in: str, reset: str) -> Letter:
    return Letter(
        gettext("You already have an account"),
        (
            gettext("Someone tried to sign up with this address, which has an account."),
            gettext("Forgot the password: {reset}").format(reset=reset),
            gettext("Sign in here:"),
        ),
        sign_in,
        (gettext("If it was not you, there is nothing to do."),),
    )


def reset_password(*, link: str, minutes: int, now: datetime, zone: str, where: Where) -> Letter:
    return Letter(
        gettext("Reset your password"),
        (
            gettext("Someone asked for this at {time} from {ip}. Choose a new one here.").format(
                time=_moment(now, zone), ip=where.peer_address or "?"
            ),
        ),
        link,
        (
            gettext("It works once, for {minutes} minutes.").format(minutes=minutes),
            gettext("If it was not you, your password stays as it is."),
        ),
    )


def invitation(invited: Invitation, *, link: str, role: str | Promise, rights: str | Promise, zone: str) -> Letter:
    inviter = invited.invited_by.get_full_name() if invited.invited_by else settings.SERVICE_NAME
    return Letter(
        gettext("{inviter} invites you to “{tenant}”").format(inviter=inviter, tenant=invited.tenant.name),
        (gettext("You would join as {role}, who can {rights}.").format(role=role, rights=rights),),
        link,
        (
            gettext("Valid until {expiry}.").format(expiry=_moment(invited.expires_at, zone)),
            gettext("If you do not know {inviter}, delete this mail.").format(inviter=inviter),
        ),
    )


def sign_in_changed(change: str, *, link: str, now: datetime, zone: str, where: Where) -> Letter:
    return Letter(
        gettext("Your way of signing in has changed"),
        (
            gettext("{change} ({time}, {ip}, {browser})").format(
                change=change, time=_moment(now, zone), ip=where.peer_address or "?", browser=where.browser or "?"
            ),
            gettext("If it was not you, undo it here at once."),
        ),
        link,
    )


def confirm_new_address(*, link: str, minutes: int) -> Letter:
    return Letter(
        gettext("Confirm your new e-mail address"),
        (
            gettext(
                "Open the page and press “Confirm”. From then on you sign in to {service} with this address."
            ).format(service=settings.SERVICE_NAME),
        ),
        link,
        (
            gettext("It works once, for {minutes} minutes.").format(minutes=minutes),
            gettext("If you did not ask for this, do nothing."),
        ),
    )


# ---------------------------------------------------------------- their way out


def send(email: str, word: Callable[[], Letter], *, language: str, is_to_go: bool = True) -> None:
    """Words the letter now, in the reader's language, and hands it over a moment later.

    With ``is_to_go`` off it does all of that for nobody, so that the answer takes as long.
    """
    with override(language or get_language() or settings.LANGUAGE_CODE):
        message = _message(email, word())
    future = _post.submit(_hand_over, message if is_to_go else None)
    _under_way.add(future)
    future.add_done_callback(_under_way.discard)


def to_person(person: User, word: Callable[[], Letter], *, is_to_go: bool = True) -> None:
    send(person.email, word, language=person.language, is_to_go=is_to_go)


def wait_until_sent(timeout_seconds: float = 10) -> None:
    """For tests, and for a process that ends."""
    wait(list(_under_way), timeout=timeout_seconds)


def deliver(email: str, word: Callable[[], Letter], *, language: str, over: BaseEmailBackend | None = None) -> None:
    """At once, for tasks: raises what the backend raises. ``over``: a backend instead of the usual one."""
    with override(language or settings.LANGUAGE_CODE):
        message = _message(email, word())
    message.connection = over
    message.send()


def _message(email: str, letter: Letter) -> EmailMultiAlternatives:
    context: dict[str, Any] = {
        "letter": letter,
        "service": settings.SERVICE_NAME,
        "language": get_language(),
        "support": settings.SUPPORT_URL.removeprefix("mailto:"),
        "terms": settings.TERMS_URL.removeprefix("mailto:"),
        "support_url": settings.SUPPORT_URL,
        "terms_url": settings.TERMS_URL,
    }
    message = EmailMultiAlternatives(
        # A header field is one line, whatever a tenant or a person is called.
        " ".join(f"[{settings.SERVICE_NAME}] {letter.subject}".split()),
        render_to_string("mail/letter.txt", context),
        settings.MAIL_FROM,
        [email],
        headers={"Auto-Submitted": "auto-generated"},  # RFC 3834: no vacation notice answers it
    )
    message.attach_alternative(render_to_string("mail/letter.html", context), "text/html")
    return message


def _hand_over(message: EmailMultiAlternatives | None) -> None:
    if message is None:
        return
    try:
        message.send()
    except Exception:
        logger.exception("a letter could not be handed over: %s", message.subject)
    finally:
        connection.close()


def _moment(moment: datetime, zone: str) -> str:
    try:
        local = timezone.localtime(moment, ZoneInfo(zone or timezone.get_default_timezone_name()))
    except (ZoneInfoNotFoundError, ValueError):
        local = timezone.localtime(moment)
    written = f"{date_format(local, 'Y-m-d')} {local.strftime('%H:%M')}"
    # Translators: a time with the short name of its zone.
    return gettext("{time} ({zone})").format(time=written, zone=local.tzname())
