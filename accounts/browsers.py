"""Where a person is signed in, as that person sees it, and how to end it there."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Actor
from accounts.models import SignedInBrowser, User
from accounts.refusals import NotFound
from accounts.sessions import stored_key

NOTED_EVERY = timedelta(minutes=5)
_KEPT = timedelta(days=90)


def note(user: User, *, session_key: str, method: str, browser: str, peer_address: str | None) -> SignedInBrowser:
    """A session has begun. One with the same key, which a signed-in person replaced, is forgotten."""
    with transaction.atomic():
        stored = stored_key(session_key)
        SignedInBrowser.objects.filter(session_key=stored).delete()
        return SignedInBrowser.objects.create(
            user=user, session_key=stored, method=method, browser=browser[:250], peer_address=peer_address
        )


def note_visit(session_key: str, *, peer_address: str | None) -> None:
    now = timezone.now()
    SignedInBrowser.objects.filter(session_key=stored_key(session_key), last_seen_at__lt=now - NOTED_EVERY / 2).update(
        last_seen_at=now, peer_address=peer_address
    )


def rekey(old: str, new: str) -> None:
    """The session went on under a new key, as after a changed password."""
    SignedInBrowser.objects.filter(session_key=stored_key(old)).update(session_key=stored_key(new))


def forget(session_key: str) -> None:
    SignedInBrowser.objects.filter(session_key=stored_key(session_key)).delete()


def is_of(browser: SignedInBrowser, session_key: str | None) -> bool:
    """Whether it is the browser of that session."""
    return session_key is not None and browser.session_key == stored_key(session_key)


def browsers_of(user: User) -> list[SignedInBrowser]:
    """Those whose session is still there, the newest visit first."""
    from django.contrib.sessions.models import Session

    found = list(SignedInBrowser.objects.filter(user=user).order_by("-last_seen_at")[:100])
    alive = set(
        Session.objects.filter(
            session_key__in=[one.session_key for one in found], expire_date__gt=timezone.now()
        ).values_list("session_key", flat=True)
    )
    return [one for one in found if one.session_key in alive]


def end(user: User, key: UUID, *, actor: Actor) -> SignedInBrowser:
    """Signed out there from its next request on. Raises NotFound, also for somebody else's."""
    found = SignedInBrowser.objects.filter(user=user, pk=key).first()
    if found is None:
        raise NotFound(_("There is no such session."))
    _end([found])
    audit.record(
        actor, "session.end", object_id=user.id, object_name=user.email, before={"from": found.peer_address}
    )  # fmt: skip
    return found


def end_others(user: User, *, but: str | None, actor: Actor) -> int:
    """All but the session that asks."""
    found = [one for one in SignedInBrowser.objects.filter(user=user) if not is_of(one, but)]
    _end(found)
    if found:
        audit.record(
            actor, "session.end_others", object_id=user.id, object_name=user.email, after={"count": len(found)}
        )
    return len(found)


def forget_old() -> int:
    """Sessions that are over, and the rows of those nobody has used for a quarter of a year."""
    from django.contrib.sessions.models import Session

    now = timezone.now()
    SignedInBrowser.objects.filter(last_seen_at__lt=now - _KEPT).delete()
    return Session.objects.filter(expire_date__lt=now).delete()[0]


def _end(found: list[SignedInBrowser]) -> None:
    from django.contrib.sessions.models import Session

    with transaction.atomic():
        Session.objects.filter(session_key__in=[one.session_key for one in found]).delete()
        SignedInBrowser.objects.filter(pk__in=[one.pk for one in found]).delete()
