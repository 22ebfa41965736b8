"""A scripted SMTP host on loopback: says, step by step, what a test tells it to, and keeps what it heard as raw bytes.

    async with SmtpPeer(rcpt=["550 5.1.1 no such user", "250 ok"]) as peer:
        ...
        assert peer.connections[0].contents == [b"Subject: x\\r\\n\\r\\nhello\\r\\n"]

Every step (banner, ehlo, helo, starttls, auth, mail, rcpt, data, dot, rset, quit) has a list of turns that are used up in
order over all connections; the last one repeats. A turn is a reply without its line ending, an action, or a list of
those. Nothing waits for time: `Wait` waits for an event of the test, and tests wait for what the peer heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 35882577", "ENHANCEDSTATUSCODES")
_DATA_END = b"\r\n.\r\n"


@dataclass(frozen=True)
class Raw:
    """Octets as they are, one write; with `in_single_octets` each in a write of its own."""

    octets: bytes
    in_single_octets: bool = False


@dataclass(frozen=True)
class Wait:
    event: asyncio.Event


@dataclass(frozen=True)
class Call:
    function: Callable[[], object]


class Close:
    """Close the connection in good order."""


class Reset:
    """Close the connection with a TCP reset."""


class Silence:
    """Read on, but never answer again."""


class StopReading:
    """Take nothing more from the socket, and keep the connection."""


class AcceptTls:
    """Do the server's part of a TLS handshake, and begin anew."""


Action = str | Raw | Wait | Call | Close | Reset | Silence | StopReading | AcceptTls
Turn = Action | type | Sequence[Action | type]


@dataclass
class Connection:
    """What one connection heard."""

    peer_address: str
    commands: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)  # as on the wire, dots still doubled
    segments: list[bytes] = field(default_factory=list)  # what each read of the socket gave
    unfinished: bytes = b""  # content that came without its final dot
    is_tls: bool = False
    is_closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def verbs(self) -> list[str]:
        return [command.split(b" ")[0].split(b":")[0].decode("ascii", "replace").upper() for command in self.commands]

    @property
    def raw(self) -> bytes:
        return b"".join(self.segments)


class SmtpPeer:
    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        at_port: int = 0,
        extensions: Sequence[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        has_implicit_tls: bool = False,
        early_data: Turn | None = None,
        early_data_after: int = 0,
        **script: Sequence[Turn],
    ) -> None:
        """`early_data` is a turn taken in the middle of content, once so many octets of it were read."""
        self.host = host
        self._at_port = at_port
        self.connections: list[Connection] = []
        self.extensions = list(extensions)
        self._tls = tls
        self._has_implicit_tls = has_implicit_tls
        self._early_data, self._early_data_after = early_data, early_data_after
        self._script = {step: list(turns) for step, turns in script.items()}
        self._heard = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    @property
    def open_connections(self) -> int:
        return sum(not connection.is_closed.is_set() for connection in self.connections)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until something this peer heard makes it true."""
        async with self._heard:
            await self._heard.wait_for(is_true)

    async def __aenter__(self) -> Self:
        context = self._tls if self._has_implicit_tls else None
        self._server = await asyncio.start_server(self._take, self.host, self._at_port, ssl=context, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(peer_address=writer.get_extra_info("peername")[0], is_tls=self._has_implicit_tls)
        self.connections.append(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self.tell()
        try:
            await _Conversation(self, connection, reader, writer).run()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.is_closed.set()
            writer.close()
            with contextlib.suppress(asyncio.CancelledError):
                await self.tell()

    async def tell(self) -> None:
        async with self._heard:
            self._heard.notify_all()

    def script(self, step: str, *turns: Turn) -> None:
        """From now on; what is being said is not taken back."""
        self._script[step] = list(turns)

    def next_turn(self, step: str, default: Turn) -> Turn:
        turns = self._script.get(step)
        if not turns:
            return default
        return turns.pop(0) if len(turns) > 1 else turns[0]

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self._tls

    @property
    def early_data(self) -> tuple[Turn | None, int]:
        return self._early_data, self._early_data_after


class _Finished(Exception):
    pass


class _Conversation:
    def __init__(
        self, peer: SmtpPeer, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._peer = peer
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._buffer = b""

    async def run(self) -> None:
        try:
            await self._play("banner", "220 peer.test ESMTP")
            while True:
                await self._obey(await self._line())
        except _Finished:
            pass

    async def _obey(self, line: bytes) -> None:
        self._connection.commands.append(line)
        await self._peer.tell()
        match line.split(b" ")[0].split(b":")[0].upper():
            case b"EHLO":
                await self._play("ehlo", self._ehlo())
            case b"HELO":
                await self._play("helo", "250 peer.test")
            case b"STARTTLS":
                await self._play("starttls", ["220 2.0.0 go ahead", AcceptTls])
            case b"AUTH":
                await self._authenticate(line)
            case b"MAIL":
                await self._play("mail", "250 2.1.0 ok")
            case b"RCPT":
                await self._play("rcpt", "250 2.1.5 ok")
            case b"DATA":
                if (await self._play("data", "354 go ahead")).startswith("3"):
                    await self._content()
                    await self._play("dot", "250 2.0.0 queued")
            case b"RSET":
                await self._play("rset", "250 2.0.0 ok")
            case b"QUIT":
                await self._play("quit", ["221 2.0.0 bye", Close])
            case _:
                await self._play("unknown", "500 5.5.1 what?")

    def _ehlo(self) -> str:
        extensions = list(self._peer.extensions)
        if self._peer.tls is not None and not self._connection.is_tls:
            extensions.append("STARTTLS")
        lines = ["peer.test", *extensions]
        return "\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)

    async def _authenticate(self, line: bytes) -> None:
        said = await self._play("auth", "235 2.7.0 welcome")
        while said.startswith("334"):
            self._connection.commands.append(await self._line())
            said = await self._play("auth", "235 2.7.0 welcome")

    async def _content(self) -> None:
        turn, after = self._peer.early_data
        read = b"\r\n"  # so that a dot right at the beginning ends the content too
        while _DATA_END not in read:
            if turn is not None and len(read) - 2 >= after:
                self._connection.unfinished = read[2:]
                await self._act(turn)
                turn = None
            try:
                read += await self._more()
            except _Finished:
                self._connection.unfinished = read[2:]
                raise
            self._connection.unfinished = read[2:]
        content, _, self._buffer = read.partition(_DATA_END)
        self._connection.contents.append((content + b"\r\n")[2:])
        self._connection.unfinished = b""
        await self._peer.tell()

    async def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._buffer += await self._more(from_buffer=False)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    async def _more(self, *, from_buffer: bool = True) -> bytes:
        if from_buffer and self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        data = await self._reader.read(2**20)
        if not data:
            raise _Finished
        self._connection.segments.append(data)
        await self._peer.tell()
        return data

    async def _play(self, step: str, default: Turn) -> str:
        return await self._act(self._peer.next_turn(step, default))

    async def _act(self, turn: Turn) -> str:
        """Do what a turn says; gives the last thing said."""
        said = ""
        for action in [turn] if isinstance(turn, (str, type)) or not isinstance(turn, Sequence) else turn:
            match action() if isinstance(action, type) else action:
                case str(text):
                    said = text.rpartition("\r\n")[2]
                    await self._write(text.encode() + b"\r\n")
                case Raw(octets, in_single_octets):
                    said = octets.decode("latin-1")
                    for piece in [bytes([octet]) for octet in octets] if in_single_octets else [octets]:
                        await self._write(piece)
                        if in_single_octets:
                            await asyncio.sleep(0)
                case Wait(event):
                    await event.wait()
                case Call(function):
                    function()
                case Close():
                    raise _Finished
                case Reset():
                    linger = struct.pack("ii", 1, 0)
                    self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self._writer.transport.abort()
                    raise _Finished
                case Silence():
                    while True:
                        await self._more(from_buffer=False)
                case StopReading():
                    self._writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await asyncio.Event().wait()
                case AcceptTls():
                    assert self._peer.tls is not None
                    self._buffer = b""
                    await self._writer.start_tls(self._peer.tls)
                    self._connection.is_tls = True
        return said

    async def _write(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()
