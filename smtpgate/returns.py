"""The returns listener: reports, complaints and unsubscribe mails to mailboxes of ours, and nothing else.

There is no login and no relaying; what is not ours is told 550 5.1.1, however it is spelt. The null reverse-path is
welcome here. Which mailboxes are ours, and keeping what comes, is delivery.acceptance.returns.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import ClassVar

import structlog

from delivery.acceptance.returns import Known, Returns
from delivery.core import replies
from delivery.core.envelope import MailCommand, RcptCommand
from delivery.core.replies import OwnReply, Rejection
from smtpgate.boundary import Boundary, loggable
from smtpgate.protocol import SmtpProtocol
from smtpgate.submission import ANSWERED_WITHIN_S, COMMITTED_WITHIN_S

log = structlog.get_logger(__name__)

_MOST_RECIPIENTS = 20
# RFC 5321 §4.1.1.3: postmaster is taken without a domain, too.
_BARE_POSTMASTER = re.compile(rb"(?i)(TO:<postmaster)(>(?: .*)?)\Z")


class ReturnsSession(SmtpProtocol):
    offers_auth: ClassVar[bool] = False
    # Nothing that comes here is ever reported on.
    honours_dsn: ClassVar[bool] = False

    def __init__(self, boundary: Boundary, *, returns: Returns, is_implicit_tls: bool = False) -> None:
        super().__init__(boundary, is_implicit_tls=is_implicit_tls)
        self.returns = returns
        self._known: list[Known] = []

    @property
    def is_available(self) -> bool:
        return self.returns.is_ready

    @property
    def max_recipients(self) -> int:
        return _MOST_RECIPIENTS

    def reset_transaction(self) -> None:
        super().reset_transaction()
        self._known = []

    async def begin(self, mail: MailCommand) -> None:
        if not self.returns.is_ready:
            raise Rejection(replies.LOCAL_TROUBLE)
        if mail.size is not None and mail.size > self.max_message_bytes:
            raise Rejection(replies.TOO_LARGE)

    async def add(self, recipient: RcptCommand) -> None:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            known = await self.returns.recognise(recipient.mailbox)
        if known not in self._known:
            self._known.append(known)

    async def take(self, content: bytes) -> OwnReply:
        assert self.mail is not None
        async with asyncio.timeout(COMMITTED_WITHIN_S):
            ids = await self.returns.keep(
                content, self._known, reverse_path=self.mail.reverse_path, peer_address=self.address
            )
        log.info("returned_mail_kept", ids=[str(one) for one in ids], peer=self.address, size_bytes=len(content))
        return replace(replies.ACCEPTED, text=f"{replies.ACCEPTED.text} {ids[0]}")

    async def refused(self, rejection: Rejection, content: bytes | None = None) -> None:
        log.info("return_refused", reply=rejection.reply.line, detail=loggable(rejection.detail), peer=self.address)


async def _rcpt(session: SmtpProtocol, argument: bytes) -> None:
    hostname = session.boundary.hostname.encode("ascii", "replace")
    await SmtpProtocol.commands[b"RCPT"].run(session, _BARE_POSTMASTER.sub(rb"\1@" + hostname + rb"\2", argument))


ReturnsSession.commands = {**SmtpProtocol.commands, b"RCPT": SmtpProtocol.commands[b"RCPT"]._replace(run=_rcpt)}
