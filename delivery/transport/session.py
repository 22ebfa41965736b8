"""One SMTP session with a hop: opened, secured, then used for one mail transaction after another.

Whatever the peer or the network does becomes a `Reply` with the phase in which it happened. Before there is a
session that is `SessionFailed`; afterwards it is the reply of a `Delivery`, where a lost connection is a made-up
421, and one that is lost after the final dot is *ambiguous*. The final dot goes out only after the caller's mark
was recorded, and after it the session says nothing, not even QUIT, until the caller uses it again: the caller holds
it until its settlement is committed.

A session belongs to one caller at a time. When a call is cancelled, or the mark is refused, the connection is
dropped, because in the middle of a transaction there is no other way to take a message back.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NoReturn, Self

from delivery.core.envelope import DsnParameters
from delivery.core.reply import Origin, Phase, Reply, from_lines, made_up
from delivery.transport import dane
from delivery.transport.dot_stuffing import BLOCK_OCTETS, Chunk, DotStuffer, UnsafeContent, blocks_of, size_of
from delivery.transport.hops import Hop
from delivery.transport.timeouts import SmtpTimeouts
from delivery.transport.tls_policy import TlsMode, TlsPolicy
from delivery.transport.transcript import Transcript
from delivery.transport.wire import FailureKind, Wire, WireFailure, connect

QUIT_SECONDS = 5.0
# A peer that takes content more slowly than this is a tar pit, even if it takes every single block in time.
SLOWEST_OCTETS_PER_SECOND = 4096
MAX_COMMAND_OCTETS = 512

_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Login:
    """Name and password at a smarthost. They are said over TLS only."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one mail transaction.

    `is_stale`: the connection had been used before and turned out to be gone before anything was said about this
    message; nothing was learnt about the peer, and the message may be offered again at once on a new connection.
    """

    reply: Reply
    is_ambiguous: bool = False
    dot_sent: bool = False
    is_stale: bool = False


class SessionFailed(Exception):
    """There is no session; `reply` is what to judge, `kind` what to do about the connection or the source address.

    `failures` has every address that was tried, this one included, when several were.
    """

    def __init__(self, reply: Reply, kind: FailureKind, hop: Hop | None = None) -> None:
        super().__init__(reply.line)
        self.reply = reply
        self.kind = kind
        self.hop = hop
        self.failures: tuple[SessionFailed, ...] = ()


class FenceLost(Exception):
    """The mark for the final dot was refused: the entry belongs to somebody else now. The connection was dropped."""


class SmtpSession:
    """Made by `open`. `messages` counts the mail transactions begun on this connection."""

    def __init__(self, hop: Hop, wire: Wire, *, ehlo_name: str, timeouts: SmtpTimeouts, transcript: Transcript) -> None:
        self.hop = hop
        self.messages = 0
        self.dot_is_out = False
        self.tls_version: str | None = None
        self.tls_cipher: str | None = None
        self.local_address = wire.local_address
        self._tls = TlsPolicy()
        self._wire = wire
        self._ehlo_name = ehlo_name
        self._timeouts = timeouts
        self._transcript = transcript
        self._extensions: dict[str, str] = {}
        self._needs_reset = False
        self._is_spent = False
        self._is_busy = False

    @classmethod
    async def open(
        cls,
        hop: Hop,
        *,
        source_address: str | None,
        ehlo_name: str,
        tls: TlsPolicy,
        timeouts: SmtpTimeouts,
        login: Login | None = None,
        transcript: Transcript,
    ) -> Self:
        """Connect, greet, secure, log in. Raises SessionFailed.

        The kind BROKEN_TLS says that the policy allows to try again without TLS. With a login it never does.
        """
        if login is not None and tls.mode is TlsMode.OPPORTUNISTIC:
            tls = replace(tls, mode=TlsMode.REQUIRED)
        transcript.note(f"connecting to {hop}" + (f" from {source_address}" if source_address else ""))
        if tls.source is not None:
            transcript.note(str(tls))
        try:
            wire = await connect(hop.address, hop.port, source_address=source_address, within=timeouts.connect)
        except WireFailure as failure:
            transcript.note(failure.text)
            raise SessionFailed(_reply_for(failure, Phase.CONNECT), failure.kind, hop) from None
        session = cls(hop, wire, ehlo_name=ehlo_name, timeouts=timeouts, transcript=transcript)
        session._tls = tls
        try:
            await session._establish(tls, login)
        except SessionFailed:
            session._leave_at_once()
            raise
        except BaseException:
            wire.abort()
            raise
        return session

    # What the hop offers

    @property
    def has_8bitmime(self) -> bool:
        return "8BITMIME" in self._extensions

    @property
    def has_smtputf8(self) -> bool:
        return "SMTPUTF8" in self._extensions

    @property
    def has_dsn(self) -> bool:
        return "DSN" in self._extensions

    @property
    def has_pipelining(self) -> bool:
        return "PIPELINING" in self._extensions

    @property
    def size_limit(self) -> int | None:
        """The largest message the hop says it takes, in octets; None when it does not say (RFC 1870: 0 is no limit)."""
        limit = self._extensions.get("SIZE", "")
        return int(limit) or None if limit.isascii() and limit.isdigit() and len(limit) < 20 else None

    @property
    def is_usable(self) -> bool:
        """Whether another mail transaction can begin: nobody hung up, said 421, or said something unasked."""
        return not self._is_spent and self._wire.failure is None and not self._wire.has_input

    # One mail transaction

    async def deliver(
        self,
        *,
        reverse_path: str,
        recipient: str,
        content: Sequence[Chunk],
        body: str = "7BIT",
        smtputf8: bool = False,
        dsn: DsnParameters | None = None,
        mark_dot: Callable[[], Awaitable[bool]],
        transcript: Transcript,
    ) -> Delivery:
        """Offer one message to one recipient, both paths in their quoted form without angle brackets.

        `content` is CRLF-only, not stuffed, and is taken from the caller's memory as it goes out. `body` is 7BIT or
        8BITMIME. `dsn` is said to a host that takes such parameters. Raises FenceLost when `mark_dot` says no; whatever the
        peer or the network does is in the Delivery.
        """
        if self._is_busy:
            raise RuntimeError("a session carries one mail transaction at a time")
        self._is_busy = True
        self.dot_is_out = False
        self._transcript = transcript
        try:
            return await self._transaction(reverse_path, recipient, content, body, smtputf8, dsn, mark_dot)
        except BaseException:
            self._wire.abort()
            raise
        finally:
            self._is_busy = False

    async def reset(self) -> None:
        """Abort a begun transaction now. Never raises; a session that cannot is not usable any more.

        Not needed between deliveries: RSET goes out by itself with the next MAIL where a transaction was left open.
        """
        try:
            lines = await self._command(b"RSET")
            self._needs_reset = False
            self._is_spent |= lines[-1][:1] != b"2"
        except WireFailure:
            self._is_spent = True

    async def quit(self) -> None:
        """Say goodbye, wait a few seconds for the answer, close. Never raises."""
        try:
            if self.is_usable:
                self._wire.write(b"QUIT\r\n")
                await self._wire.reply(min(QUIT_SECONDS, self._timeouts.command))
        except WireFailure:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close without a word."""
        self._is_spent = True
        self._wire.close()

    # Opening

    async def _establish(self, tls: TlsPolicy, login: Login | None) -> None:
        phase = Phase.CONNECT
        try:
            if self.hop.has_implicit_tls:
                phase = Phase.STARTTLS
                await self._encrypt(tls)
                phase = Phase.CONNECT
            self._expect_positive(phase, await self._receive(self._timeouts.banner))
            phase = Phase.HELO
            await self._greet()
            if self.tls_version is None and tls.mode is not TlsMode.NONE and self._offers_tls(tls):
                phase = Phase.STARTTLS
                await self._start_tls(tls)
                phase = Phase.HELO
                await self._greet()
            if login is not None:
                phase = Phase.AUTH
                await self._log_in(login)
        except WireFailure as failure:
            self._transcript.note(failure.text)
            raise SessionFailed(_reply_for(failure, phase), failure.kind, self.hop) from None

    async def _greet(self) -> None:
        lines = await self._command(b"EHLO " + self._ehlo_name.encode("ascii"))
        if lines[-1][:1] == b"2":
            self._extensions = _extensions_of(lines[1:])
            return
        self._extensions = {}
        if lines[-1][:1] != b"5":
            self._expect_positive(Phase.HELO, lines)
        # RFC 5321 §3.2: a host that does not know EHLO may know HELO.
        try:
            again = await self._command(b"HELO " + self._ehlo_name.encode("ascii"))
        except WireFailure:
            again = lines
        self._expect_positive(Phase.HELO, again)

    def _offers_tls(self, tls: TlsPolicy) -> bool:
        if "STARTTLS" in self._extensions:
            return True
        if tls.is_mandatory:
            self._fail_tls(tls, "the host does not offer STARTTLS, which is demanded here")
        return False

    async def _start_tls(self, tls: TlsPolicy) -> None:
        lines = await self._command(b"STARTTLS")
        if lines[-1][:3] == b"421":
            self._expect_positive(Phase.STARTTLS, lines)
        if lines[-1][:3] != b"220":
            self._fail_tls(tls, f"STARTTLS was refused: {from_lines(Phase.STARTTLS, lines).line}")
        await self._encrypt(tls)

    async def _encrypt(self, tls: TlsPolicy) -> None:
        try:
            context = tls.context()
        except OSError as error:
            self._fail_tls(tls, f"the trusted certificates in {tls.ca_file} cannot be read: {error.strerror}")
        try:
            await self._wire.start_tls(context, server_hostname=self.hop.tls_name, within=self._timeouts.command)
        except WireFailure as failure:
            self._fail_tls(tls, failure.text)
        self.tls_version, self.tls_cipher = self._wire.tls or ("TLS", "unknown")
        self._extensions = {}
        self._transcript.note(f"{self.tls_version}, {self.tls_cipher}")
        self._check_certificate(tls)

    def _check_certificate(self, tls: TlsPolicy) -> None:
        """What is known about the peer's certificate by now, or what TLSA records say of it."""
        if tls.tlsa:
            names = (self.hop.tls_name, *tls.names)
            try:
                match = dane.check_chain(self._wire.peer_chain, tls.tlsa, names=names, now=datetime.now(tz=UTC))
            except dane.Mismatch as mismatch:
                self._fail_tls(tls, str(mismatch))
            self._transcript.note(f"the certificate matches TLSA {match}")
        elif tls.mode is TlsMode.VERIFIED:
            self._transcript.note(f"the certificate is trusted for {self.hop.tls_name}")

    def _fail_tls(self, tls: TlsPolicy, text: str) -> NoReturn:
        may_fall_back = not tls.is_mandatory and not self.hop.has_implicit_tls
        kind = FailureKind.BROKEN_TLS if may_fall_back else FailureKind.TLS
        self._transcript.note(text)
        raise SessionFailed(made_up(Phase.STARTTLS, 451, "4.7.5", text, Origin.TLS), kind, self.hop)

    async def _log_in(self, login: Login) -> None:
        if self.tls_version is None:
            self._fail_login("the login is said over TLS only, and this connection has none")
        offered = self._extensions.get("AUTH", "").upper().split()
        name, password = login.username.encode(), login.password.encode()
        if "PLAIN" in offered:
            lines = await self._authenticate(b"PLAIN", [b"\0" + name + b"\0" + password], has_initial=True)
        elif "LOGIN" in offered:
            lines = await self._authenticate(b"LOGIN", [name, password], has_initial=False)
        else:
            self._fail_login(f"the host offers neither AUTH PLAIN nor AUTH LOGIN, but: {' '.join(offered) or 'none'}")
        if lines[-1][:3] != b"235":
            raise SessionFailed(_negative(Phase.AUTH, lines), FailureKind.AUTH, self.hop)

    async def _authenticate(self, mechanism: bytes, responses: Iterable[bytes], *, has_initial: bool) -> list[bytes]:
        queue = [b64encode(response) for response in responses]
        command = b"AUTH " + mechanism
        # RFC 4954 §4: an initial response that makes the command too long is sent after the 334 instead.
        if has_initial and len(command) + len(queue[0]) + 3 <= MAX_COMMAND_OCTETS:
            lines = await self._command(command + b" " + queue.pop(0), shown=command + b" ***")
        else:
            lines = await self._command(command)
        while queue and lines[-1][:3] == b"334":
            lines = await self._command(queue.pop(0), shown=b"***")
        return lines

    def _fail_login(self, text: str) -> NoReturn:
        self._transcript.note(text)
        raise SessionFailed(made_up(Phase.AUTH, 451, "4.7.0", text, Origin.OWN), FailureKind.AUTH, self.hop)

    def _expect_positive(self, phase: Phase, lines: list[bytes]) -> None:
        if lines[-1][:1] != b"2":
            raise SessionFailed(_negative(phase, lines), FailureKind.ANSWERED, self.hop)

    def _leave_at_once(self) -> None:
        if self._wire.failure is None:
            self._wire.write(b"QUIT\r\n")
        self.close()

    # The steps of a transaction

    async def _transaction(
        self,
        reverse_path: str,
        recipient: str,
        content: Sequence[Chunk],
        body: str,
        smtputf8: bool,
        dsn: DsnParameters | None,
        mark_dot: Callable[[], Awaitable[bool]],
    ) -> Delivery:
        size = size_of(content)
        unsayable = _unsayable(reverse_path, recipient) or self._unsupported(reverse_path, recipient, body, smtputf8)
        if unsayable is not None:
            return Delivery(unsayable)
        envelope = self._envelope(reverse_path, recipient, size, body, smtputf8, dsn)
        progress = _Progress(is_reused=self.messages > 0)
        if progress.is_reused:
            self._note_reuse()
        self.messages += 1
        try:
            refusal = await self._offer(envelope, progress)
            if refusal is None:
                progress.phase = Phase.DATA
                refusal, ending = await self._send_content(content, size)
            if refusal is not None:
                return Delivery(refusal)
            if not await mark_dot():
                raise FenceLost
            # Where the peer gave up meanwhile, the dot stays here and nothing is ambiguous.
            refusal = await self._early_reply()
            if refusal is not None:
                return Delivery(refusal)
            return await self._end(ending)
        except WireFailure as failure:
            return self._lost(failure, progress)
        except UnsafeContent as unsafe:
            self._wire.abort()
            self._transcript.note(f"not sent on: {unsafe} in the content")
            text = f"the content is no strict SMTP ({unsafe}); it was not sent"
            return Delivery(made_up(Phase.DATA, 451, "4.6.0", text, Origin.OWN))

    def _unsupported(self, reverse_path: str, recipient: str, body: str, smtputf8: bool) -> Reply | None:
        """Why the hop cannot take this message as it is. Converting is the caller's business, before signing."""
        needs_smtputf8 = smtputf8 or not (reverse_path.isascii() and recipient.isascii())
        if needs_smtputf8 and not self.has_smtputf8:
            text = "the receiving host does not support internationalised addresses (SMTPUTF8)"
            return made_up(Phase.MAIL, 550, "5.6.7", text, Origin.OWN)
        if body == "8BITMIME" and not self.has_8bitmime:
            text = "the receiving host does not take 8-bit content (8BITMIME)"
            return made_up(Phase.MAIL, 550, "5.6.3", text, Origin.OWN)
        return None

    def _envelope(
        self,
        reverse_path: str,
        recipient: str,
        size: int,
        body: str,
        smtputf8: bool,
        dsn: DsnParameters | None,
    ) -> list[tuple[Phase, bytes]]:
        mail = f"MAIL FROM:<{reverse_path}>"
        if "SIZE" in self._extensions:
            mail += f" SIZE={size}"
        if body == "8BITMIME":
            mail += " BODY=8BITMIME"
        if smtputf8 or not (reverse_path.isascii() and recipient.isascii()):
            mail += " SMTPUTF8"
        rcpt = f"RCPT TO:<{recipient}>"
        if dsn is not None and self.has_dsn:
            mail, rcpt = mail + dsn.of_mail, rcpt + dsn.of_recipient
        return [(Phase.MAIL, mail.encode()), (Phase.RCPT, rcpt.encode()), (Phase.DATA, b"DATA")]

    async def _offer(self, envelope: list[tuple[Phase, bytes]], progress: _Progress) -> Reply | None:
        """Say the envelope; None when the peer waits for content. After a refusal no content was sent."""
        is_pipelined = self.has_pipelining
        needs_reset, self._needs_reset = self._needs_reset, False
        if is_pipelined:
            commands = [command for _, command in envelope]
            self._send([b"RSET", *commands] if needs_reset else commands)
        if needs_reset:
            await self._confirm_reset(is_pipelined)
        refusal: Reply | None = None
        for phase, command in envelope:
            progress.phase = phase
            if not is_pipelined:
                self._send((command,))
            try:
                lines = await self._receive(self._timeouts.command)
            except WireFailure:
                if refusal is None:
                    raise
                return refusal  # a host that refuses and hangs up has said what matters
            progress.has_reply = True
            if phase is Phase.DATA and lines[-1][:3] == b"354":
                if refusal is not None:
                    await self._withdraw()
                return refusal
            if phase is not Phase.DATA and lines[-1][:1] == b"2":
                self._needs_reset = True
                continue
            refusal = refusal or _negative(phase, lines)
            self._is_spent |= lines[-1][:3] == b"421"
            if self._is_spent or not is_pipelined:
                return refusal
        return refusal

    async def _confirm_reset(self, is_pipelined: bool) -> None:
        if not is_pipelined:
            self._send((b"RSET",))
        lines = await self._receive(self._timeouts.command)
        if lines[-1][:1] != b"2":
            # Says nothing about the message that comes now, so it must not count as an answer to it.
            raise WireFailure(FailureKind.CLOSED, "the host did not take RSET after the last message")

    async def _withdraw(self) -> None:
        """End the data that was allowed although nobody was accepted: an empty message to nobody (RFC 2920 §3.1)."""
        try:
            self._send((b".",))
            lines = await self._receive(self._timeouts.command)
            self._is_spent |= lines[-1][:3] == b"421"
        except WireFailure:
            self._is_spent = True

    async def _send_content(self, content: Sequence[Chunk], size: int) -> tuple[Reply | None, bytes]:
        """All but the final dot. Gives what the peer says against it meanwhile, and the octets that end the content."""
        wire, stuffer = self._wire, DotStuffer()
        if size <= BLOCK_OCTETS:
            wire.write(stuffer.stuff(b"".join(content)))
        else:
            await self._stream(content, stuffer)
        self._transcript.content_sent(size)
        return await self._early_reply(), stuffer.ending()

    async def _stream(self, content: Sequence[Chunk], stuffer: DotStuffer) -> None:
        wire, patience = self._wire, self._timeouts.data
        began, sent = time.monotonic(), 0
        for block in blocks_of(content):
            try:
                wire.write(stuffer.stuff(block))
                await wire.drain(patience)
            except WireFailure:
                if not wire.has_reply:
                    raise
            if wire.has_reply:
                return  # it says why it does not want the rest, and may have hung up already
            sent += len(block)
            if time.monotonic() - began > patience + sent / SLOWEST_OCTETS_PER_SECOND:
                raise WireFailure(FailureKind.TIMEOUT, f"the host took only {sent:,} octets of content in a long time")

    async def _early_reply(self) -> Reply | None:
        """What was said before the final dot. Raises WireFailure if the connection is lost."""
        if not self._wire.has_reply:
            if self._wire.failure is not None:
                raise self._wire.failure
            return None
        refusal = _negative(Phase.DATA, await self._receive(0))
        # In the middle of the content there is no way back to commands.
        self._wire.abort()
        return refusal

    async def _end(self, ending: bytes) -> Delivery:
        self._wire.write(ending)
        self.dot_is_out = True
        self._transcript.sent(b".")
        self._needs_reset = False
        try:
            lines = await self._receive(self._timeouts.dot)
            if lines[-1][:1] == b"3":
                raise WireFailure(FailureKind.NOT_SMTP, f"unexpected reply to the content: {_shown(lines)}")
        except WireFailure as failure:
            self._wire.abort()
            self._transcript.note(failure.text)
            return Delivery(_reply_for(failure, Phase.EOD), is_ambiguous=True, dot_sent=True)
        self._is_spent |= lines[-1][:3] == b"421"
        return Delivery(from_lines(Phase.EOD, lines), dot_sent=True)

    def _lost(self, failure: WireFailure, progress: _Progress) -> Delivery:
        self._wire.abort()
        self._transcript.note(failure.text)
        is_gone = failure.kind in (FailureKind.CLOSED, FailureKind.RESET)
        is_stale = progress.is_reused and not progress.has_reply and is_gone
        return Delivery(_reply_for(failure, progress.phase), is_stale=is_stale)

    def _note_reuse(self) -> None:
        tls = f", {self.tls_version}, {self.tls_cipher}" if self.tls_version else ""
        self._transcript.note(f"connection to {self.hop} kept open{tls}, message {self.messages + 1}")
        if self._tls.source is not None:
            self._transcript.note(str(self._tls))

    # Commands and replies

    async def _command(self, command: bytes, *, shown: bytes | None = None) -> list[bytes]:
        self._wire.write(command + b"\r\n")
        self._transcript.sent(command if shown is None else shown)
        return await self._receive(self._timeouts.command)

    def _send(self, commands: Sequence[bytes]) -> None:
        self._wire.write(b"\r\n".join(commands) + b"\r\n")
        for command in commands:
            self._transcript.sent(command)

    async def _receive(self, within: float) -> list[bytes]:
        lines = await self._wire.reply(within)
        self._transcript.received(lines)
        return lines


@dataclass(slots=True)
class _Progress:
    """How far a transaction came, for wording a loss."""

    is_reused: bool
    phase: Phase = Phase.MAIL
    has_reply: bool = False


def _extensions_of(lines: Sequence[bytes]) -> dict[str, str]:
    extensions: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line[4:].decode("ascii", "replace").strip().partition(" ")
        # Old hosts say AUTH=LOGIN for what RFC 4954 writes with a space.
        keyword, _, old_parameters = keyword.upper().partition("=")
        known = extensions.get(keyword, "")
        extensions[keyword] = " ".join(filter(None, (known, old_parameters, parameters.strip())))
    return extensions


def _unsayable(reverse_path: str, recipient: str) -> Reply | None:
    """A line break in a path would be a command of its own; nothing like that is ever written."""
    if _FORBIDDEN_IN_PATH.search(reverse_path):
        return made_up(Phase.MAIL, 553, "5.1.7", "the reverse-path contains control characters", Origin.OWN)
    if _FORBIDDEN_IN_PATH.search(recipient):
        return made_up(Phase.RCPT, 553, "5.1.3", "the recipient contains control characters", Origin.OWN)
    return None


def _negative(phase: Phase, lines: list[bytes]) -> Reply:
    """A refusal. Raises WireFailure for a positive reply where none makes sense: nobody knows what the peer is at."""
    reply = from_lines(phase, lines)
    if reply.is_positive:
        raise WireFailure(FailureKind.NOT_SMTP, f"unexpected reply: {_shown(lines)}")
    return reply


def _shown(lines: Sequence[bytes]) -> str:
    return lines[-1][:120].decode("utf-8", "replace")


def _reply_for(failure: WireFailure, phase: Phase) -> Reply:
    """The made-up reply for what the network did."""
    match failure.kind:
        case FailureKind.CANNOT_BIND:
            code, enhanced = 451, "4.3.5"
        case FailureKind.LOCAL:
            code, enhanced = 451, "4.3.0"
        case FailureKind.NOT_SMTP:
            code, enhanced = 421, "4.5.0"
        case _:
            # RFC 3463 §3.5: 4.4.1 no answer from the host, 4.4.2 bad connection.
            code, enhanced = 421, "4.4.1" if phase is Phase.CONNECT else "4.4.2"
    return made_up(phase, code, enhanced, failure.text, Origin.NETWORK)
