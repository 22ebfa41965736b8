"""First steps: from nothing to a mail whose answer one has read. Works before any DNS is set.

The test mail goes through acceptance like every other, for the tenant itself, to a member's confirmed address; it is
written as the onboarding domain as long as the tenant has none of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP

import structlog
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from accounts import credentials
from accounts.models import Credential, Membership, Role
from accounts.refusals import Refused
from delivery import domains as sending_domains
from delivery import history
from delivery.acceptance.submission import Peer, Submission
from delivery.core.envelope import BODY_7BIT, Envelope, EnvelopeRecipient
from delivery.core.mailbox import MailboxSyntaxError, parse_mailbox
from delivery.models import DomainState, Message, RejectionEntry
from delivery.tenants import principal_of
from relayweb.console import rejection_words, snippets, stories, words
from relayweb.console.access import Seat, tenant_page
from relayweb.console.forms import ConsoleForm
from relayweb.console.handing_over import hand_over
from relayweb.console.messages import unchanged

log = structlog.get_logger(__name__)

STEPS = 4
LATELY = timedelta(hours=1)


class TestMailForm(ConsoleForm):
    recipient = forms.ChoiceField(label=_("To"))
    subject = forms.CharField(label=_("Subject"), max_length=120)

    def __init__(self, seat: Seat, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["recipient"].choices = [(address, address) for address in _recipients(seat)]  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done so far."""

    address: bool
    credential: Credential | None
    message: Message | None
    domain: str  # a verified one
    claimed: str  # one that is not proved yet
    is_refused: RejectionEntry | None

    @property
    def done(self) -> int:
        return sum((self.address, self.credential is not None, self.message is not None, bool(self.domain)))

    @property
    def next(self) -> str:
        """Sending comes before the credential for who has neither: nothing has to be set up for it."""
        order = (
            ("address", self.address),
            ("mail", self.message is not None),
            ("credential", self.credential is not None),
            ("domain", bool(self.domain)),
        )
        return next((name for name, is_done in order if not is_done), "")


@tenant_page()
@require_safe
def page(request: HttpRequest, seat: Seat) -> HttpResponse:
    return render(request, "console/start/start.html", _context(request, seat))


@tenant_page()
@require_safe
def live(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The steps, once something has happened; 204 before."""
    steps = _steps(seat)
    if request.GET.get("seen") == _seen(seat, steps):
        return unchanged(timezone.now())
    return render(request, "console/start/_progress.html", {"is_refresh": True, **_progress(seat, steps)})


@tenant_page(Role.DEVELOPER)
@require_POST
def send(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = TestMailForm(seat, request.POST)
    if not form.is_valid():
        return render(request, "console/start/start.html", _context(request, seat, form))
    try:
        message_id = hand_over(_submission(seat, form.cleaned_data["recipient"], form.cleaned_data["subject"]))
    except MailboxSyntaxError as error:
        form.refuse(Refused(str(error), reason="mailbox_malformed", field="recipient"))
    except Refused as refusal:
        form.refuse(refusal)
    else:
        log.info("test_mail_accepted", tenant=seat.tenant.slug, message_id=str(message_id))
        return redirect(reverse("start", kwargs={"slug": seat.tenant.slug}) + "#step-mail")
    return render(request, "console/start/start.html", _context(request, seat, form))


# ---------------------------------------------------------------- the mail


def _submission(seat: Seat, recipient: str, subject: str) -> Submission:
    author = parse_mailbox(snippets.author_for(seat.tenant))
    mail = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    mail["From"] = author.address
    mail["To"] = recipient
    mail["Subject"] = " ".join(subject.split())
    mail.set_content(
        gettext(
            "This mail was sent from the first-steps page of {tenant}. That you read it shows that the way from "
            "{service} to your mailbox is open."
        ).format(tenant=seat.tenant.name, service=settings.SERVICE_NAME)
        + "\n"
    )
    return Submission(
        principal=principal_of(seat.tenant),
        envelope=Envelope(
            reverse_path=author, recipients=(EnvelopeRecipient(parse_mailbox(recipient)),), body=BODY_7BIT
        ),
        content=mail.as_bytes(),
        peer=Peer(address=seat.peer_address, ehlo=settings.HOSTNAME, protocol="SYSTEM"),
    )


def _recipients(seat: Seat) -> list[str]:
    """Members whose address is confirmed, the reader first."""
    confirmed = (
        Membership.objects.of(seat.tenant)
        .filter(user__is_active=True, user__email_confirmed_at__isnull=False)
        .values_list("user__email", flat=True)
    )
    return sorted(confirmed, key=lambda address: (address != seat.person.email, address))


# ---------------------------------------------------------------- what the page shows


def _steps(seat: Seat) -> Steps:
    known = sending_domains.list_domains(seat.tenant)
    refused = RejectionEntry.objects.of(seat.tenant).order_by("-id").first()
    message = Message.objects.of(seat.tenant).order_by("-id").first()
    is_recent = refused is not None and refused.last_at > timezone.now() - LATELY
    is_latest = refused is not None and (message is None or refused.last_at > message.accepted_at)
    return Steps(
        address=seat.person.email_confirmed_at is not None,
        credential=next(iter(credentials.list_credentials(seat.tenant)), None),
        message=message,
        domain=next((domain.name for domain in known if domain.state == DomainState.VERIFIED), ""),
        claimed=next((domain.name for domain in known if domain.state != DomainState.VERIFIED), ""),
        is_refused=refused if is_recent and is_latest else None,
    )


def _seen(seat: Seat, steps: Steps) -> str:
    """A few characters that differ when the page would."""
    mail = history.fingerprint_of(seat.tenant, steps.message.id) if steps.message is not None else ""
    credential = (steps.credential.id, steps.credential.last_used_at) if steps.credential else ""
    refused = (steps.is_refused.id, steps.is_refused.count) if steps.is_refused else ""
    return f"{zlib.crc32(repr((steps.address, credential, mail, steps.domain, steps.claimed, refused)).encode()):08x}"


def _context(request: HttpRequest, seat: Seat, form: TestMailForm | None = None) -> dict[str, object]:
    steps = _steps(seat)
    username = steps.credential.username if steps.credential is not None else ""
    author = f"hello@{steps.domain}" if steps.domain else ""
    subject = gettext("First mail from {tenant}").format(tenant=seat.tenant.name)[:120]
    return {
        "section": "start",
        "form": form or TestMailForm(seat, initial={"subject": subject}),
        "snippets": snippets.for_login(snippets.access_for(seat.tenant, username=username or "", author=author)),
        **_progress(seat, steps),
    }


def _progress(seat: Seat, steps: Steps) -> dict[str, object]:
    told, said = None, ""
    if steps.message is not None:
        page = history.recipients_of(steps.message, size=1)
        told = stories.tell(page.views[0], steps.message) if page.views else None
        said = str(told.mark.label) if told is not None else ""
    refused = None
    if steps.is_refused is not None and (known := rejection_words.REJECTIONS.get(steps.is_refused.reason)) is not None:
        values = {"domain": steps.is_refused.author_domain or "?", "reference": steps.is_refused.reference}
        refused = (words.fill(known.what, **values), words.fill(known.remedy, **values))
    return {
        "steps": steps,
        "total": STEPS,
        "told": told,
        "refused": refused,
        "seen": _seen(seat, steps),
        "said": said,
        "is_watched": steps.done < STEPS or (told is not None and not told.row.state.is_final),
    }
