"""An SMTP session on top of aiosmtpd, with what aiosmtpd leaves open closed here once for every listener.

Commands are whole lines ending in CRLF and stay bytes; DATA ends at CRLF.CRLF alone; memory is bounded at every moment;
deadlines ask for progress instead of counting time; anything unexpected is answered 451 with a reference, and the
transaction is forgotten. What a listener does with an envelope, a login and a content is said in a subclass.

RFC 5321 throughout; also RFC 1870 (SIZE), 2034 (enhanced status codes), 2920 (pipelining), 3207 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, NoReturn, cast

import structlog
from aiosmtpd.smtp import SMTP

from delivery.core import replies
from delivery.core.envelope import EnvelopeSyntaxError, MailCommand, RcptCommand, parse_mail, parse_rcpt
from delivery.core.replies import OwnReply, Rejection
from smtpgate.boundary import Boundary, loggable, new_reference, peer_address
from smtpgate.incoming import EndlessContent, IncomingContent
from smtpgate.lines import CRLF, LineReader

log = structlog.get_logger(__name__)

# How far a peer may be ahead of us; asyncio stops reading at twice this.
_READ_AHEAD_OCTETS = 64 * 1024
# RFC 5321 §4.5.3.1.4, with the CRLF.
_COMMAND_OCTETS = 512
# RFC 1870 §3, RFC 3461 §5 and RFC 6531 §3.4 lengthen MAIL and RCPT by what their parameters need.
_ENVELOPE_COMMAND_OCTETS = 2048
# RFC 4954 §4: for the command and for each line of the exchange.
AUTH_OCTETS = 12288
_LONGEST_NAME = 255
# Commands taken from a full buffer before other sessions get their turn.
_COMMANDS_IN_A_ROW = 50

# What reading raises. Anywhere else these are trouble of ours, and no reason to fall silent.
_PEER_IS_GONE = (asyncio.IncompleteReadError, OSError)
# RFC 5321 §3.8: whoever says this hangs up.
_CHANNEL_CLOSES = 421
# A browser that some page made write to our port. It would go on after its header lines, and a client of a network that
# needs no login would have sent mail.
_HTTP_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE"))
_CANNOT_VERIFY = OwnReply(252, "2.0.0", "send mail and see")
_HELP = OwnReply(214, "2.0.0", "see RFC 5321 and RFC 6409")


class SessionOver(Exception):
    """The session has ended, and what was to be said has been said."""


class SmtpProtocol(SMTP):
    """One session. ``is_implicit_tls``: the peer begins with a TLS handshake (RFC 8314 §3.3)."""

    offers_auth: ClassVar[bool] = False
    honours_dsn: ClassVar[bool] = True  # what a client asks for by RFC 3461 is done

    reader: LineReader
    transport: asyncio.Transport
    # Of asyncio's stream protocol, below aiosmtpd's.
    _loop: asyncio.AbstractEventLoop
    _over_ssl: bool
    _paused: bool

    def __init__(self, boundary: Boundary, *, is_implicit_tls: bool = False) -> None:
        # Not aiosmtpd's own __init__: it looks up every command by reflection for each connection, and keeps the limits
        # of commands on the class, where each EHLO raises them for everybody.
        self.reader = LineReader(limit=_READ_AHEAD_OCTETS, loop=asyncio.get_running_loop())
        asyncio.StreamReaderProtocol.__init__(self, self.reader, loop=asyncio.get_running_loop())
        self.boundary = boundary
        self.limits = boundary.limits
        self.is_implicit_tls = is_implicit_tls
        self.address = ""
        self.tls: str | None = None
        self.ehlo = ""
        self.is_extended = False
        self.mail: MailCommand | None = None
        self.recipients: list[RcptCommand] = []
        self._recipients_offered = 0
        self._errors = 0
        self._commands = 0
        self._idle_commands = 0
        self._is_inside = False
        self._task: asyncio.Task[None] | None = None
        # While TLS is set up before there is a connection to speak of; see AcceptingServer.
        self.handshake: asyncio.Task[None] | None = None
        # The clock: by when what we wait for must be here, and since when we wait for a command.
        self._deadline = math.inf
        self._waiting_since = math.inf
        self._productive_until = math.inf
        self._ended_at = math.inf
        self._octets_received = 0
        self._octets_credited: int | None = None  # during DATA alone

    # ------------------------------------------------------------ what a listener adds

    async def begin(self, mail: MailCommand) -> None:
        """MAIL. Raises Rejection."""
        raise NotImplementedError

    async def add(self, recipient: RcptCommand) -> None:
        """RCPT. Raises Rejection."""
        raise NotImplementedError

    async def take(self, content: bytes) -> OwnReply:
        """The content of the transaction, dots unstuffed; returns what is said once it is safe. Raises Rejection."""
        raise NotImplementedError

    async def authenticate(self, argument: bytes) -> None:
        """AUTH, where it is offered."""

    async def refused(self, rejection: Rejection, content: bytes | None = None) -> None:
        """A refusal is about to be told."""

    def forget_identity(self) -> None:
        """RFC 3207 §4.2: what was said in the clear counts for nothing."""

    @property
    def is_available(self) -> bool:
        """Whether it makes sense to talk at all."""
        return True

    @property
    def max_message_bytes(self) -> int:
        return self.limits.max_message_bytes

    @property
    def max_recipients(self) -> int:
        return self.limits.max_recipients

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.transport = cast(asyncio.Transport, transport)
        self.handshake = None
        if self.is_implicit_tls:
            self._note_tls()
        else:
            # A proxy has told whose connection it is.
            refusal = self.come_in(self.address or peer_address(transport))
            if refusal is not None:
                self.reply(refusal)
                self.transport.close()
                return
        self._productive_until = self._loop.time() + self.limits.unproductive_seconds
        self._task = self._loop.create_task(self._handle_client())

    def come_in(self, address: str) -> OwnReply | None:
        """Have the session counted; says why not, if it is one too many."""
        self.address = address
        refusal = self.boundary.enter(self, address)
        self._is_inside = refusal is None
        return refusal

    def leave(self) -> None:
        if self._is_inside:
            self._is_inside = False
            self.boundary.leave(self, self.address)

    def data_received(self, data: bytes) -> None:
        self._octets_received += len(data)
        self.reader.feed_data(data)

    def eof_received(self) -> bool:
        # aiosmtpd cancels its handler here; a peer that has said its last word still gets our answer to it.
        self.reader.feed_eof()
        return self.tls is None and not self.is_implicit_tls

    def connection_lost(self, error: Exception | None) -> None:
        # No cancelling either: a commit under way comes to its end, and reading ends by itself.
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.leave()

    def end(self, reply: OwnReply) -> None:
        """Say this as the last thing, whatever the session is doing."""
        if self.handshake is not None:
            self.abort()
        elif self._ended_at == math.inf:
            self._ended_at = self._loop.time()
            self.reply(reply)
            self.transport.close()

    @property
    def has_ended(self) -> bool:
        return self._ended_at < math.inf

    def end_if_idle(self, reply: OwnReply) -> None:
        is_idle = self._waiting_since < math.inf and self.mail is None and not self.reader.holds_a_line
        if is_idle or self.handshake is not None:
            self.end(reply)

    def abort(self) -> None:
        if self.handshake is not None:
            self.handshake.cancel()
        else:
            self.transport.abort()

    # ------------------------------------------------------------ the clock

    def look_at_the_clock(self, now: float, *, is_stressed: bool, linger_seconds: float) -> None:
        """Called about once a second: end the session if it makes no progress."""
        if self._ended_at < math.inf:
            if now - self._ended_at > linger_seconds:
                self.abort()
            return
        self._credit_what_came(now)
        dawdles = is_stressed and now - self._waiting_since > self.limits.stress_command_seconds
        if now > self._deadline or dawdles:
            log.info("session_timed_out", peer=self.address, in_data=self._octets_credited is not None)
            if self._is_shaking_hands:
                self.abort()
            else:
                self.end(replies.IDLE_TOO_LONG)

    def _credit_what_came(self, now: float) -> None:
        """What arrived in DATA buys time at the minimum rate, never more than a peer has in hand at the start."""
        if self._octets_credited is None:
            return
        bought = (self._octets_received - self._octets_credited) / self.limits.data_bytes_per_second
        self._octets_credited = self._octets_received
        self._deadline = min(self._deadline + bought, now + self.limits.data_seconds)

    def made_progress(self) -> None:
        self._productive_until = self._loop.time() + self.limits.unproductive_seconds
        self._idle_commands = 0

    def _wait_for_the_peer(self) -> None:
        now = self._loop.time()
        self._waiting_since = now
        self._deadline = min(now + self.limits.command_seconds, self._productive_until)

    def _wait_for_ourselves(self) -> None:
        # Our own slowness is not the peer's fault.
        self._waiting_since = self._deadline = math.inf

    @property
    def _is_shaking_hands(self) -> bool:
        return self._over_ssl and self.tls is None

    # ------------------------------------------------------------ the command loop

    async def _handle_client(self) -> None:
        try:
            await self._greet()
            while self._ended_at == math.inf:
                await self._serve_one_command()
        except SessionOver:
            pass
        except Exception:  # the edge: nothing of one session may touch another
            log.exception("session_broke", peer=self.address)
        finally:
            self._wait_for_ourselves()
            self._ended_at = min(self._ended_at, self._loop.time())
            self.transport.close()

    async def _greet(self) -> None:
        if not self.is_available:
            self._say_and_leave(replace(replies.LOCAL_TROUBLE, code=_CHANNEL_CLOSES))
        self._write(f"220 {self.boundary.hostname} ESMTP")

    async def _serve_one_command(self) -> None:
        if self.boundary.is_draining and self.mail is None:
            self._say_and_leave(replies.SHUTTING_DOWN)
        line = await self.read_line(AUTH_OCTETS)
        self._count_command()
        try:
            if line is None:
                await self.refuse(replies.COMMAND_TOO_LONG)
                return
            await self._dispatch(line)
        except Rejection as rejection:
            await self.refuse(rejection.reply, rejection)
        except EnvelopeSyntaxError as error:
            await self.refuse(error.reply, Rejection(error.reply, detail=loggable(line or b"")))
        except SessionOver:
            raise
        except Exception as error:  # noqa: BLE001 - the edge: trouble of ours is 4yz and shows nothing of itself
            await self._trouble(error)
        if self._commands % _COMMANDS_IN_A_ROW == 0:
            await asyncio.sleep(0)

    async def read_line(self, limit: int) -> bytes | None:
        """The next line with its ending; None if it was longer than ``limit``, of which nothing is kept."""
        self._wait_for_the_peer()
        try:
            if self._paused:
                await self._drain_helper()  # type: ignore[attr-defined]
            line = await self.reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            await self._skip_line(error.consumed)
            return None
        except _PEER_IS_GONE:
            raise SessionOver from None
        finally:
            self._wait_for_ourselves()
        return line if len(line) <= limit else None

    async def _skip_line(self, octets: int) -> None:
        """Read on to the end of a line too long for the buffer; the command's deadline stands."""
        self._wait_for_the_peer()
        while True:
            try:
                await self.reader.readexactly(octets)
                await self.reader.readuntil(b"\n")
                return
            except asyncio.LimitOverrunError as error:
                octets = error.consumed
            except _PEER_IS_GONE:
                raise SessionOver from None

    async def _dispatch(self, line: bytes) -> None:
        text = line[:-2]
        # RFC 5321 §2.3.8: CR and LF travel only together. A line that ends otherwise is no command, and no part of one.
        if not line.endswith(CRLF) or b"\r" in text or b"\0" in text:
            await self.refuse(replies.COMMAND_UNKNOWN)
            return
        verb, _, argument = text.partition(b" ")
        command = self.commands.get(verb.upper())
        if verb.upper() in _HTTP_METHODS:
            log.info("http_on_smtp_port", peer=self.address)
            self._say_and_leave(replies.COMMAND_UNKNOWN)
        if command is None:
            await self.refuse(replies.COMMAND_UNKNOWN)
        elif len(line) > command.longest:
            await self.refuse(replies.COMMAND_TOO_LONG)
        else:
            await command.run(self, argument)

    def _count_command(self) -> None:
        self._commands += 1
        self._idle_commands += 1
        if self._commands > self.limits.commands_per_session or self._idle_commands > self.limits.idle_commands:
            log.info("too_many_commands", peer=self.address, commands=self._commands)
            self._say_and_leave(replies.TOO_MANY_ERRORS)

    # ------------------------------------------------------------ answering

    def reply(self, reply: OwnReply) -> None:
        self._write(reply.line)

    def ask(self, challenge: str) -> None:
        """A step of AUTH; the space stands there even if nothing follows (RFC 4954 §4)."""
        self._write(f"334 {challenge}")

    def _write(self, *lines: str) -> None:
        """All lines of a reply in one piece; who waits for the peer first waits until it has read."""
        if not self.transport.is_closing():
            self.transport.write("\r\n".join((*lines, "")).encode("utf-8"))

    async def refuse(self, reply: OwnReply, rejection: Rejection | None = None, content: bytes | None = None) -> None:
        """Say no. Too many of them without an accepted mail between end the session."""
        if rejection is not None:
            await self.refused(rejection, content)
        if reply.is_permanent:
            self._errors += 1
            if self._errors >= self.limits.errors:
                log.info("too_many_errors", peer=self.address, last=reply.line)
                self.reply(reply)
                self._say_and_leave(replies.TOO_MANY_ERRORS)
        if reply.code == _CHANNEL_CLOSES:
            self._say_and_leave(reply)
        self.reply(reply)

    async def _trouble(self, error: Exception) -> None:
        reference = new_reference()
        log.error("trouble", peer=self.address, reference=reference, exc_info=error)
        self.reset_transaction()
        self.reply(replies.LOCAL_TROUBLE.with_reference(reference))

    def _say_and_leave(self, reply: OwnReply) -> NoReturn:
        self.end(reply)
        raise SessionOver

    # ------------------------------------------------------------ commands

    def reset_transaction(self) -> None:
        self.mail = None
        self.recipients = []
        self._recipients_offered = 0

    async def _ehlo(self, argument: bytes) -> None:
        if await self._is_introduced(argument, is_extended=True):
            lines = [self.boundary.hostname, *self._extensions()]
            self._write(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    async def _helo(self, argument: bytes) -> None:
        if await self._is_introduced(argument, is_extended=False):
            self._write(f"250 {self.boundary.hostname}")

    async def _is_introduced(self, argument: bytes, *, is_extended: bool) -> bool:
        name = argument.strip(b" \t")
        if not name or len(name) > _LONGEST_NAME or any(octet < 33 or octet == 127 for octet in name):
            await self.refuse(replies.BAD_SYNTAX)
            return False
        self.reset_transaction()
        self.ehlo = name.decode("utf-8", "replace")
        self.is_extended = is_extended
        return True

    def _extensions(self) -> list[str]:
        extensions = [
            "PIPELINING",
            f"SIZE {self.limits.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self.honours_dsn:
            extensions.append("DSN")
        if self.boundary.tls_context is not None and self.tls is None:
            extensions.append("STARTTLS")
        if self.offers_auth and self.tls is not None:
            extensions.append("AUTH PLAIN LOGIN")
        return extensions

    async def _mail(self, argument: bytes) -> None:
        if not self.ehlo:
            await self.refuse(replies.HELO_REQUIRED)
            return
        if self.mail is not None:
            await self.refuse(replies.BAD_SEQUENCE)
            return
        mail = parse_mail(argument)
        if self.boundary.memory.is_short:
            raise Rejection(replies.STORAGE_SHORT)
        await self.begin(mail)
        self.mail = mail
        self.reply(replies.REVERSE_PATH_OK)

    async def _rcpt(self, argument: bytes) -> None:
        if self.mail is None:
            await self.refuse(replies.BAD_SEQUENCE)
            return
        self._recipients_offered += 1
        self._idle_commands = 0
        recipient = parse_rcpt(argument, smtputf8=self.mail.smtputf8)
        if len(self.recipients) >= self.max_recipients:
            await self._refuse_excess()
            return
        await self.add(recipient)
        self.recipients.append(recipient)
        self.made_progress()
        self.reply(replies.RECIPIENT_OK)

    async def _refuse_excess(self) -> None:
        """The others are still delivered; the peer brings these again. Said to the tenant once a transaction."""
        is_first = self._recipients_offered == len(self.recipients) + 1
        rejection = Rejection(replies.TOO_MANY_RECIPIENTS, detail=f"limit {self.max_recipients}")
        await self.refuse(rejection.reply, rejection if is_first else None)

    async def _data(self, argument: bytes) -> None:
        if argument.strip(b" \t"):
            await self.refuse(replies.BAD_SYNTAX)
            return
        if self.mail is None or not self._recipients_offered:
            await self.refuse(replies.BAD_SEQUENCE)
            return
        if not self.recipients:
            await self.refuse(replies.NO_VALID_RECIPIENTS)
            return
        if self.boundary.memory.is_short:
            raise Rejection(replies.STORAGE_SHORT)
        self.reply(replies.SEND_DATA)
        await self._receive_content()

    async def _rset(self, argument: bytes) -> None:
        if argument.strip(b" \t"):
            await self.refuse(replies.BAD_SYNTAX)
            return
        self.reset_transaction()
        self.reply(replies.OK)

    async def _noop(self, argument: bytes) -> None:
        self.reply(replies.OK)

    async def _quit(self, argument: bytes) -> None:
        if argument.strip(b" \t"):
            await self.refuse(replies.BAD_SYNTAX)
            return
        self._say_and_leave(replies.GOODBYE)

    async def _vrfy(self, argument: bytes) -> None:
        self.reply(_CANNOT_VERIFY)

    async def _expn(self, argument: bytes) -> None:
        await self.refuse(replies.COMMAND_NOT_OFFERED)

    async def _help(self, argument: bytes) -> None:
        self.reply(_HELP)

    async def _auth(self, argument: bytes) -> None:
        if not self.offers_auth:
            await self.refuse(replies.COMMAND_NOT_OFFERED)
        elif self.tls is None:
            await self.refuse(replies.ENCRYPTION_REQUIRED)
        elif not self.is_extended:
            await self.refuse(replies.HELO_REQUIRED)
        elif self.mail is not None:
            await self.refuse(replies.BAD_SEQUENCE)
        else:
            await self.authenticate(argument)

    async def _starttls(self, argument: bytes) -> None:
        if argument.strip(b" \t"):
            await self.refuse(replies.BAD_SYNTAX)
        elif self.tls is not None:
            await self.refuse(replies.TLS_ALREADY_ACTIVE)
        elif self.boundary.tls_context is None:
            await self.refuse(replies.COMMAND_NOT_OFFERED)
        else:
            # Whatever came behind the command in the clear was put there by somebody in between.
            self.reader.forget()
            self.reply(replies.READY_FOR_TLS)
            await self._encrypt()

    # ------------------------------------------------------------ TLS

    async def _encrypt(self) -> None:
        """Shake hands, and begin anew. Raises SessionOver."""
        assert self.boundary.tls_context is not None
        if self.boundary.has_enough_handshakes:
            self.abort()
            raise SessionOver
        self.boundary.handshakes += 1
        self._over_ssl = True
        self._deadline = self._loop.time() + self.limits.tls_handshake_seconds
        try:
            encrypted = await self._loop.start_tls(
                self.transport,
                self,
                self.boundary.tls_context(),
                server_side=True,
                ssl_handshake_timeout=self.limits.tls_handshake_seconds,
            )
        except OSError as error:  # an SSLError or a TimeoutError, too
            log.info("tls_handshake_failed", peer=self.address, error=loggable(str(error)))
            self.abort()
            raise SessionOver from None
        finally:
            self.boundary.handshakes -= 1
            self._wait_for_ourselves()
        if encrypted is None:
            raise SessionOver
        self.transport = encrypted
        self.reader.follow(encrypted)
        self._note_tls()
        self.ehlo = ""
        self.is_extended = False
        self.reset_transaction()
        self.forget_identity()

    def _note_tls(self) -> None:
        tls: Any = self.transport.get_extra_info("ssl_object")
        self.tls = f"{tls.version()} {tls.cipher()[0]}"

    # ------------------------------------------------------------ DATA

    async def _receive_content(self) -> None:
        incoming = IncomingContent(self.reader, self.boundary.memory, max_octets=self.max_message_bytes)
        try:
            refusal = await self._read_content(incoming)
            if refusal is not None:
                raise Rejection(refusal)
            await self._hand_over(incoming.content())
        finally:
            incoming.release()
            self.reset_transaction()

    async def _read_content(self, incoming: IncomingContent) -> OwnReply | None:
        self._octets_credited = self._octets_received
        self._deadline = self._loop.time() + self.limits.data_seconds
        try:
            return await incoming.read()
        except EndlessContent:
            log.info("endless_content", peer=self.address)
            self._say_and_leave(replies.TOO_LARGE)
        except _PEER_IS_GONE:
            raise SessionOver from None
        finally:
            self._octets_credited = None
            self._wait_for_ourselves()

    async def _hand_over(self, content: bytes) -> None:
        try:
            reply = await self.take(content)
        except Rejection as rejection:
            await self.refuse(rejection.reply, rejection, content)
            return
        self._errors = 0
        self.made_progress()
        self.reply(reply)

    # Only what stands here can be reached: a command that a newer library brings along is not offered.
    commands: ClassVar[Mapping[bytes, Command]]


class Command(NamedTuple):
    run: Callable[[SmtpProtocol, bytes], Awaitable[None]]
    longest: int = _COMMAND_OCTETS


SmtpProtocol.commands = {
    b"EHLO": Command(SmtpProtocol._ehlo),
    b"HELO": Command(SmtpProtocol._helo),
    b"MAIL": Command(SmtpProtocol._mail, _ENVELOPE_COMMAND_OCTETS),
    b"RCPT": Command(SmtpProtocol._rcpt, _ENVELOPE_COMMAND_OCTETS),
    b"DATA": Command(SmtpProtocol._data),
    b"RSET": Command(SmtpProtocol._rset),
    b"NOOP": Command(SmtpProtocol._noop),
    b"QUIT": Command(SmtpProtocol._quit),
    b"VRFY": Command(SmtpProtocol._vrfy),
    b"EXPN": Command(SmtpProtocol._expn),
    b"HELP": Command(SmtpProtocol._help),
    b"AUTH": Command(SmtpProtocol._auth, AUTH_OCTETS),
    b"STARTTLS": Command(SmtpProtocol._starttls),
}
