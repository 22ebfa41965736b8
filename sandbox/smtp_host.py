"""A scripted MX host: a complete small SMTP server that departs from the rules exactly where its behaviour says so.

It is strict towards its clients, since it is there to find out what they do wrong: commands end with CRLF, paths have
their angle brackets, nobody talks before it is their turn. Content is kept as it came, only dot-unstuffed. A session
that ends early, or an error of the peer, ends that session only; mail that cannot be stored is answered 452.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from sandbox.answering import Answering
from sandbox.scenarios import Behaviour, Moment, Rule, Then, TlsMode
from sandbox.script import Script
from sandbox.store import Kind, MailStore, ReceivedMail, Spool, new_mail_id
from sandbox.wire import Disconnected, LineTooLongError, Wire

LOG = logging.getLogger("sandbox.smtp")

_PATH = re.compile(rb"(?P<keyword>FROM|TO):<(?P<path>(?:\"(?:[^\"\\]|\\.)*\"|[^\"<>\s])*)>(?P<rest>(?: \S+)*)\Z", re.I)
# The extension that each parameter of MAIL belongs to, and what its value looks like.
_MAIL_PARAMETERS = {
    "SIZE": ("SIZE", "[0-9]{1,20}"),
    "BODY": ("8BITMIME", "7BIT|8BITMIME"),
    "SMTPUTF8": ("SMTPUTF8", ""),
    "RET": ("DSN", "FULL|HDRS"),
    "ENVID": ("DSN", ".+"),
}
_HANG_AT_MOST_S = 3600.0
_STOP_WITHIN_S = 2.0
_MAX_ERRORS = 20
_BACKLOG = 1024
# Anything that a TLS client takes for a fatal alert: level 2, handshake_failure.
_FATAL_ALERT = bytes((21, 3, 1, 0, 2, 2, 40))
_SHUTTING_DOWN = b"421 4.3.2 The host is shutting down\r\n"


class _EndSession(Exception):
    """The script, the protocol or the client has ended the session; the connection is closed in order."""


@dataclass(slots=True)
class _Transaction:
    reverse_path: str = ""
    recipients: list[str] = field(default_factory=list)
    parameters: tuple[str, ...] = ()
    has_begun: bool = False


class SmtpHost:
    """A behaviour on one address. `start` binds it, `stop` ends its sessions."""

    def __init__(
        self,
        name: str,
        script: Script,
        store: MailStore,
        *,
        tls: ssl.SSLContext | None = None,
        idle_s: float = 300.0,
        answering: Answering | None = None,
    ) -> None:
        self.name = name
        self.script = script
        self.store = store
        self.tls = tls
        self.answering = answering
        self.address = ""
        self.port = 0
        self.connections = 0  # all that were ever made
        self.is_stopping = False
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], _Session] = {}

    @property
    def behaviour(self) -> Behaviour:
        return self.script.behaviour

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    async def start(self, address: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises `OSError` when the address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, address, port, backlog=_BACKLOG)
        self.address, self.port = self._server.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        """Stop listening and end the sessions; what is just being stored is still answered."""
        self.is_stopping = True
        if self._server is not None:
            self._server.close()
        for task, session in self._sessions.items():
            if not session.is_recording:
                task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=_STOP_WITHIN_S)

    def _connection(self) -> Wire:
        return _HostWire(self, idle_s=self._idle_s)

    def begin(self, wire: Wire) -> None:
        self.connections += 1
        session = _Session(self, wire)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._sessions.pop)


class _HostWire(Wire):
    """A wire that begins its session as soon as it is connected."""

    def __init__(self, host: SmtpHost, *, idle_s: float) -> None:
        super().__init__(idle_s=idle_s)
        self._host = host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.begin(self)


class _Session:
    """The dialogue on one connection."""

    def __init__(self, host: SmtpHost, wire: Wire) -> None:
        self._host = host
        self._wire = wire
        self._behaviour = host.behaviour
        self._peer = wire.address("peername")
        self._ehlo = ""
        self._tls: dict[str, str] | None = None
        self._transaction = _Transaction()
        self._mails = 0
        self._errors = 0
        self.is_recording = False

    async def run(self) -> None:
        try:
            await self._greet()
            while not self._host.is_stopping:
                await self._command(await self._wire.line())
            self._wire.write(_SHUTTING_DOWN)
        except (Disconnected, _EndSession):
            LOG.debug("session of %s with %s ended", self._peer, self._host.name)
        except LineTooLongError:
            self._wire.write(b"500 5.5.2 Line too long\r\n")
        except asyncio.CancelledError:
            self._wire.write(_SHUTTING_DOWN)
        finally:
            await self._wire.close()

    async def _greet(self) -> None:
        limit = self._behaviour.max_connections
        if limit is not None and self._host.open_sessions > limit:
            await self._reply(f"421 4.7.0 {self._host.name} Too many concurrent connections from [{self._peer}]")
            raise _EndSession
        await self._say(Moment.CONNECT, f"220 {self._host.name} ESMTP sandbox", early_input_is_an_error=True)

    async def _command(self, line: bytes) -> None:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            await self._complain("500 5.5.2 A command line ends with CRLF and holds no other line ending")
            return
        word, _, argument = line.partition(b" ")
        match word.upper():
            case b"EHLO":
                await self._hello(argument, is_extended=True)
            case b"HELO":
                await self._hello(argument, is_extended=False)
            case b"STARTTLS":
                await self._start_tls(argument)
            case b"MAIL":
                await self._mail(argument)
            case b"RCPT":
                await self._rcpt(argument)
            case b"DATA":
                await self._data(argument)
            case b"RSET":
                self._transaction = _Transaction()
                await self._say(Moment.RSET, "250 2.0.0 Forgotten")
            case b"NOOP":
                await self._reply("250 2.0.0 Nothing done")
            case b"VRFY":
                await self._reply("252 2.1.5 Send it some mail and see")
            case b"QUIT":
                await self._say(Moment.QUIT, "221 2.0.0 Goodbye")
                raise _EndSession
            case _:
                await self._complain("500 5.5.1 Command not known here")

    # --- commands

    async def _hello(self, argument: bytes, *, is_extended: bool) -> None:
        if is_extended and not self._behaviour.knows_ehlo:
            await self._complain("500 Command not known here")
            return
        if not argument.strip():
            await self._complain("501 5.5.4 The name of the client is missing")
            return
        self._forbid_input()
        self._transaction = _Transaction()
        self._ehlo = _readable(argument.strip())
        lines = [f"250 {self._host.name} greets {self._ehlo}"]
        lines += self._offers() if is_extended else []
        await self._say(Moment.EHLO, "\n".join(lines))

    def _offers(self) -> list[str]:
        can_start_tls = self._host.tls is not None or self._behaviour.tls is not TlsMode.OFFERED
        offers = [word for word in self._behaviour.extensions if word != "STARTTLS"]
        if "STARTTLS" in self._behaviour.extensions and can_start_tls and self._tls is None:
            offers.append("STARTTLS")
        return [f"SIZE {self._behaviour.size_limit}" if word == "SIZE" else word for word in offers]

    async def _start_tls(self, argument: bytes) -> None:
        if "STARTTLS" not in self._offers():
            await self._complain("503 5.5.1 TLS is not offered here, or already in use")
            return
        if argument:
            await self._complain("501 5.5.4 STARTTLS takes no argument")
            return
        self._forbid_input()
        mode = self._behaviour.tls
        refusal = "454 4.7.0 TLS is not available due to a temporary reason"
        code = await self._say(Moment.STARTTLS, refusal if mode is TlsMode.REFUSED else "220 2.0.0 Ready to start TLS")
        if code != 220:
            return
        if mode is TlsMode.BROKEN or self._host.tls is None:
            await self._break_handshake()
        self._tls = await self._wire.start_tls(self._host.tls)
        self._ehlo = ""
        self._transaction = _Transaction()

    async def _break_handshake(self) -> NoReturn:
        await self._wire.arrival(within_s=30.0)
        self._wire.write(_FATAL_ALERT)
        raise _EndSession

    async def _mail(self, argument: bytes) -> None:
        if not self._ehlo:
            await self._complain("503 5.5.1 Say EHLO first")
            return
        if self._transaction.has_begun:
            await self._complain("503 5.5.1 A mail transaction has already begun")
            return
        path = await self._path(argument, b"FROM")
        if path is None:
            return
        reverse_path, parameters = path
        if (refusal := self._judge_parameters(parameters)) is not None:
            await self._complain(refusal)
            return
        limit = self._behaviour.mails_per_connection
        if limit is not None and self._mails >= limit:
            await self._reply("421 4.7.0 Too many messages for this session")
            raise _EndSession
        self._transaction = _Transaction(reverse_path=reverse_path, parameters=parameters)
        code = await self._say(Moment.MAIL, "250 2.1.0 Sender noted")
        self._transaction.has_begun = _is_positive(code)

    def _judge_parameters(self, parameters: tuple[str, ...]) -> str | None:
        offers = self._behaviour.extensions
        for parameter in parameters:
            word, _, value = parameter.upper().partition("=")
            extension, pattern = _MAIL_PARAMETERS.get(word, ("", ""))
            if extension not in offers or not re.fullmatch(pattern, value):
                return f"555 5.5.4 Parameter not known here: {word}"
            if word == "SIZE" and int(value) > self._behaviour.size_limit:
                return "552 5.3.4 Message size exceeds the fixed maximum message size"
        return None

    async def _rcpt(self, argument: bytes) -> None:
        if not self._transaction.has_begun:
            await self._complain("503 5.5.1 Say MAIL first")
            return
        path = await self._path(argument, b"TO")
        if path is None:
            return
        recipient, parameters = path
        if not recipient:
            await self._complain("501 5.1.3 A recipient is never empty")
            return
        if parameters and "DSN" not in self._behaviour.extensions:
            await self._complain("555 5.5.4 Parameters are not known here")
            return
        if len(self._transaction.recipients) >= self._behaviour.max_recipients:
            await self._reply("452 4.5.3 Too many recipients")
            return
        code = await self._say(Moment.RCPT, "250 2.1.5 Recipient noted", recipient=recipient)
        if _is_positive(code):
            self._transaction.recipients.append(recipient)

    async def _path(self, argument: bytes, keyword: bytes) -> tuple[str, tuple[str, ...]] | None:
        found = _PATH.match(argument)
        if found is None or found["keyword"].upper() != keyword:
            await self._complain(f"501 5.5.4 The syntax is {keyword.decode()}:<mailbox>")
            return None
        return _readable(found["path"]), tuple(_readable(found["rest"]).split())

    async def _data(self, argument: bytes) -> None:
        if not self._transaction.recipients:
            begun = self._transaction.has_begun
            await self._complain("554 5.5.1 No valid recipients" if begun else "503 5.5.1 Say MAIL first")
            return
        if argument:
            await self._complain("501 5.5.4 DATA takes no argument")
            return
        self._forbid_input()
        code = await self._say(Moment.DATA, "354 Go ahead, end with a line that holds a dot only")
        if code != 354:
            return
        spool = Spool(self._host.store.spool_folder)
        try:
            is_too_large = await self._receive(spool)
            await self._finish(spool, is_too_large=is_too_large)
        finally:
            if not spool.is_handed_over:
                spool.discard()
            self._transaction = _Transaction()

    async def _receive(self, spool: Spool) -> bool:
        """Read the content to its final dot. What exceeds the limit is read too, and thrown away."""
        interruption = self._rule(Moment.CONTENT)
        content = self._wire.content()
        size = 0
        while not content.is_complete:
            piece = await content.read()
            size += len(piece)
            if interruption is not None and (size >= interruption.after_bytes or content.is_complete):
                await self._interrupt(interruption)
                interruption = None
            if size <= self._behaviour.size_limit:
                spool.write(piece)
        return size > self._behaviour.size_limit

    async def _interrupt(self, rule: Rule) -> None:
        await asyncio.sleep(rule.delay_s)
        if rule.then is not Then.CONTINUE:
            await self._end(rule.then)

    async def _finish(self, spool: Spool, *, is_too_large: bool) -> None:
        if is_too_large:
            await self._reply("552 5.3.4 Message size exceeds the fixed maximum message size")
            return
        if "8BITMIME" not in self._behaviour.extensions and spool.has_8bit():
            await self._reply("554 5.6.3 The content has 8-bit octets, which are not taken here")
            return
        rule = self._rule(Moment.EOD)
        if rule is not None:
            await asyncio.sleep(rule.delay_s)
        mail_id = new_mail_id()
        text = rule.reply if rule is not None and rule.reply is not None else f"250 2.0.0 Accepted as {mail_id}"
        is_answered = rule is None or rule.reply is not None or rule.then is Then.CONTINUE
        if is_answered and not text.startswith("2"):
            LOG.info("refused from=<%s> to=%s at the end of data: %s", *self._parties(), text)
            await self._answer(rule, text, mail_id=mail_id)
            return
        kind = Kind.ACCEPTED if is_answered and not self._wire.is_gone else Kind.DROPPED
        content = spool.read() if self._behaviour.answers else b""
        if await self._record(mail_id, kind, spool):
            self._mails += 1
            if self._host.answering is not None and kind is Kind.ACCEPTED:
                self._host.answering.begin(
                    self._behaviour, self._transaction.reverse_path, self._transaction.recipients, content
                )
            await self._answer(rule, text if is_answered else None, mail_id=mail_id)
        else:
            await self._reply("452 4.3.1 The message could not be stored")

    async def _record(self, mail_id: str, kind: Kind, spool: Spool) -> bool:
        mail = ReceivedMail(
            id=mail_id,
            kind=kind,
            behaviour=self._behaviour.name,
            host=self._host.name,
            address=self._host.address,
            peer=self._peer,
            ehlo=self._ehlo,
            tls=self._tls,
            reverse_path=self._transaction.reverse_path,
            recipients=tuple(self._transaction.recipients),
            parameters=self._transaction.parameters,
            spool=spool,
        )
        size = spool.size
        spool.is_handed_over = self.is_recording = True
        try:
            await self._host.store.record(mail)
        except OSError as error:
            LOG.error("mail %s not stored: %s", mail_id, error)
            return False
        finally:
            self.is_recording = False
        LOG.info("%s %s from=<%s> to=%s size=%d host=%s", kind, mail_id, *self._parties(), size, self._host.name)
        return True

    def _parties(self) -> tuple[str, str]:
        return self._transaction.reverse_path, ",".join(f"<{mailbox}>" for mailbox in self._transaction.recipients)

    # --- replies

    def _facts(self, recipient: str | None) -> Mapping[str, str]:
        recipients = self._transaction.recipients if recipient is None else [recipient]
        return {
            "peer": self._peer,
            "reverse_path": self._transaction.reverse_path,
            "recipient": ",".join(recipients),
        }

    def _rule(self, moment: Moment, recipient: str | None = None) -> Rule | None:
        return self._host.script.rule_for(moment, self._facts(recipient), has_tls=self._tls is not None)

    async def _say(
        self, moment: Moment, usual: str, *, recipient: str | None = None, early_input_is_an_error: bool = False
    ) -> int:
        """Reply as the script says, or as usual; returns the code. Raises `_EndSession` where the script ends it."""
        rule = self._rule(moment, recipient)
        if rule is not None and rule.delay_s:
            await self._wire.flush()
            await asyncio.sleep(rule.delay_s)
        if early_input_is_an_error:
            self._forbid_input()
        if rule is None or (rule.reply is None and rule.then is Then.CONTINUE):
            return await self._reply(usual)
        if rule.reply is not None and not rule.reply.startswith(("2", "3")):
            LOG.info("refused at %s from=<%s>: %s", moment, self._transaction.reverse_path, rule.reply)
        return await self._answer(rule, rule.reply, recipient=recipient)

    async def _answer(
        self, rule: Rule | None, text: str | None, *, recipient: str | None = None, mail_id: str = ""
    ) -> int:
        code = 0
        if text is not None:
            code = await self._reply(self._filled_in(text, recipient, mail_id))
        if rule is not None and rule.then is not Then.CONTINUE:
            await self._end(rule.then)
        return code

    def _filled_in(self, text: str, recipient: str | None, mail_id: str) -> str:
        if "{" not in text:
            return text
        values = {**self._facts(recipient), "host": self._host.name, "id": mail_id}
        return re.sub(r"\{(\w+)\}", lambda word: values.get(word[1], word[0]), text)

    async def _reply(self, text: str) -> int:
        if not self._behaviour.extensions.count("PIPELINING") and self._wire.has_input:
            self._cut_off()
        code, _, first = text.partition(" ")
        lines = first.split("\n")
        wire_lines = [f"{code}-{line}" for line in lines[:-1]] + [f"{code} {lines[-1]}".rstrip()]
        octets = "".join(line + "\r\n" for line in wire_lines).encode("utf-8", "surrogateescape")
        if self._behaviour.byte_delay_s:
            await self._wire.trickle(octets, byte_delay_s=self._behaviour.byte_delay_s)
        else:
            self._wire.write(octets)
        return int(code)

    async def _complain(self, text: str) -> None:
        self._errors += 1
        await self._reply(text)
        if self._errors >= _MAX_ERRORS:
            await self._reply("421 4.7.0 Too many errors")
            raise _EndSession

    def _forbid_input(self) -> None:
        """Where a client has to wait for the reply (RFC 2920 §3.1), more input is an attempt to smuggle."""
        if self._wire.has_input:
            self._cut_off()

    def _cut_off(self) -> NoReturn:
        self._wire.write(b"554 5.5.0 You have not waited for the reply\r\n")
        LOG.warning("cut off %s at %s: it did not wait for a reply", self._peer, self._host.name)
        raise _EndSession

    async def _end(self, then: Then) -> None:
        if then is Then.RESET:
            await self._wire.flush()
            self._wire.reset()
        elif then is Then.HANG:
            await self._wire.flush()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wire.closed, _HANG_AT_MOST_S)
        raise _EndSession


def _is_positive(code: int) -> bool:
    return 200 <= code < 300


def _readable(octets: bytes) -> str:
    """Text for ledgers and logs: UTF-8 where it is, everything else escaped so that it can be told apart."""
    text = octets.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
