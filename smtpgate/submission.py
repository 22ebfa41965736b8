"""The submission listeners: a session's envelope, login and content become one submission (RFC 6409).

Everything that decides lives in delivery.acceptance; here it is asked, and its refusals are told: on the wire to the
client, and in the rejection log to the tenant.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import ClassVar

import structlog

from accounts import authentication
from accounts.authentication import Principal
from accounts.uses import UseBook
from delivery.acceptance.accept import accept_submission, check_mail, check_recipient
from delivery.acceptance.store import MessageStore
from delivery.acceptance.submission import Peer, Submission
from delivery.core import replies
from delivery.core.content import ContentError, author_of, read_header_section
from delivery.core.envelope import Envelope, EnvelopeRecipient, MailCommand, RcptCommand
from delivery.core.replies import OwnReply, Rejection
from smtpgate.authentication import authenticate
from smtpgate.boundary import Boundary, loggable
from smtpgate.protocol import SmtpProtocol

log = structlog.get_logger(__name__)

# A database that hangs, rather than fails, must not hold a client until it gives up.
ANSWERED_WITHIN_S = 10.0
COMMITTED_WITHIN_S = 60.0


class SubmissionSession(SmtpProtocol):
    offers_auth: ClassVar[bool] = True

    def __init__(
        self, boundary: Boundary, *, store: MessageStore, uses: UseBook, is_implicit_tls: bool = False
    ) -> None:
        super().__init__(boundary, is_implicit_tls=is_implicit_tls)
        self.store = store
        self.uses = uses
        self.login_failures = 0
        # Who logged in; without that, who the peer's network belongs to, as of the last MAIL.
        self._login: Principal | None = None
        self._network: Principal | None = None

    # ------------------------------------------------------------ who is asking

    @property
    def principal(self) -> Principal | None:
        return self._login or self._network

    async def authenticate(self, argument: bytes) -> None:
        if self._login is not None:
            raise Rejection(replies.ALREADY_AUTHENTICATED)
        await authenticate(self, argument)

    def logged_in(self, principal: Principal) -> None:
        self._login = principal
        self.made_progress()
        self.uses.note(principal.credential_id, peer=self.address, mails=0)
        log.info("logged_in", peer=self.address, tenant=principal.tenant_slug, credential=str(principal.credential_id))

    def forget_identity(self) -> None:
        self._login = self._network = None

    async def _look_again(self) -> Principal:
        """The principal as it is now: revoked, suspended or expired since the last look. Raises Rejection."""
        pool = self.store.pool
        if self._login is not None:
            current = await authentication.refresh(pool, self._login)
            if current is None:
                rejection = Rejection(replies.CREDENTIAL_REVOKED)
                await self.refused(rejection)
                self._login = None
                raise rejection
            self._login = current
            return current
        self._network = await authentication.authenticate_network(pool, self.address)
        if self._network is None:
            raise Rejection(replies.STARTTLS_REQUIRED if self.tls is None else replies.AUTHENTICATION_REQUIRED)
        return self._network

    # ------------------------------------------------------------ the transaction

    @property
    def is_available(self) -> bool:
        return self.store.is_ready

    @property
    def max_message_bytes(self) -> int:
        return self.principal.max_message_bytes if self.principal else self.limits.max_message_bytes

    @property
    def max_recipients(self) -> int:
        return self.principal.max_recipients if self.principal else self.limits.max_recipients

    async def begin(self, mail: MailCommand) -> None:
        if not self.store.is_ready:
            raise Rejection(replies.LOCAL_TROUBLE)
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            principal = await self._look_again()
            await check_mail(mail, principal=principal, store=self.store)
        self.store.expect(id(self))

    async def add(self, recipient: RcptCommand) -> None:
        assert self.principal is not None
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            await check_recipient(recipient, principal=self.principal, store=self.store)

    async def take(self, content: bytes) -> OwnReply:
        self.store.expect_no_more(id(self))
        submission = self._submission(content)
        # A commit that hangs may still happen: then the client's next try is a second copy, which is the lesser evil.
        async with asyncio.timeout(COMMITTED_WITHIN_S):
            message_id = await accept_submission(submission, store=self.store)
        principal = submission.principal
        self.uses.note(principal.credential_id, peer=self.address, mails=1)
        log.info(
            "accepted",
            message_id=str(message_id),
            tenant=principal.tenant_slug,
            credential=str(principal.credential_id),
            peer=self.address,
            protocol=submission.peer.protocol,
            recipients=len(self.recipients),
            size_bytes=len(content),
        )
        return replace(replies.ACCEPTED, text=f"{replies.ACCEPTED.text} {message_id}")

    def _submission(self, content: bytes) -> Submission:
        assert self.mail is not None and self.principal is not None
        return Submission(
            principal=self.principal,
            envelope=Envelope(
                reverse_path=self.mail.reverse_path,
                recipients=tuple(
                    EnvelopeRecipient(mailbox=recipient.mailbox, notify=recipient.notify, orcpt=recipient.orcpt)
                    for recipient in self.recipients
                ),
                body=self.mail.body,
                smtputf8=self.mail.smtputf8,
                ret=self.mail.ret,
                envid=self.mail.envid,
            ),
            content=content,
            peer=Peer(address=self.address, ehlo=self.ehlo, protocol=self._with_protocol(), tls=self.tls),
        )

    def _with_protocol(self) -> str:
        """RFC 3848."""
        if not self.is_extended:
            return "SMTP"
        return f"ESMTP{'S' if self.tls else ''}{'A' if self._login else ''}"

    # ------------------------------------------------------------ refusing

    async def refused(self, rejection: Rejection, content: bytes | None = None) -> None:
        principal = self.principal
        log.info(
            "rejected",
            reply=rejection.reply.line,
            reason=rejection.reason,
            detail=loggable(rejection.detail),
            tenant=principal.tenant_slug if principal else None,
            credential=str(principal.credential_id) if principal else None,
            peer=self.address,
        )
        if principal is not None and self.store.is_ready:
            await self.store.log_rejection(
                rejection,
                principal=principal,
                peer_address=self.address,
                author_domain=_author_domain(content) if content is not None else "",
            )


def _author_domain(content: bytes) -> str:
    """For the rejection log, where it can be told."""
    try:
        return author_of(read_header_section(content)).mailbox.domain
    except ContentError:
        return ""
