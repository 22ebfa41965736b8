"""Receiving hosts that keep a ledger: one that is good, and others that treat every other mail badly.

    python -m bench.crash.sink LEDGER PORT SEED

Lines: ``dot connection recipient`` before the final dot is answered, ``seen connection recipient`` when the peer's next command
shows that it has read that answer, ``deny connection recipient`` where the answer to the content was not 2yz. The address that
was connected to says how the host behaves; see HOSTS. What it does to which mail is drawn from SEED.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from pathlib import Path

from bench.crash.ledger import Ledger

GOOD = "127.77.0.1"
HOSTS = {
    "good": GOOD,
    "cut-before": "127.77.0.2",  # the connection is cut at MAIL
    "cut-in": "127.77.0.3",  # in the content
    "cut-after": "127.77.0.4",  # when the final dot has come, before its answer
    "slow": "127.77.0.5",  # every answer takes seconds
    "lying": "127.77.0.6",  # answers that no server gives
    "silent": "127.77.0.7",  # never says anything
    "dead": "127.77.0.8",  # nobody listens
}
_BEHAVIOURS = {address: name for name, address in HOSTS.items()}
_UNFINISHED = b"250-and then\r\n250-nothing\r\n"
_LIES = (
    b"999 9.9.9 maybe\r\n",
    b"25\r\n",
    _UNFINISHED,
    b"\x00\xff\r\n",
    b"354 more please\r\n",
    b"451 4.3.0 later\r\n",
)
_GREATEST_DELAY_S = 0.25
_SILENCE_S = 600.0


class _Cut(Exception):
    pass


class Host:
    def __init__(self, ledger: Ledger, seed: str) -> None:
        self._ledger = ledger
        self._random = random.Random(seed)
        self._connections = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        behaviour = _BEHAVIOURS[writer.get_extra_info("sockname")[0]]
        session = _Session(self._connections, behaviour, self._ledger, self._random, reader, writer)
        try:
            await session.converse()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except _Cut:
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class _Session:
    def __init__(
        self,
        number: int,
        behaviour: str,
        ledger: Ledger,
        chance: random.Random,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._number, self._behaviour, self._ledger, self._random = number, behaviour, ledger, chance
        self._reader, self._writer = reader, writer
        self._answered: list[str] = []  # recipients of the mail whose answer was not yet seen to be read
        self._recipients: list[str] = []
        self._is_bad = False

    async def converse(self) -> None:
        self._draw()
        if self._behaviour == "silent" and self._is_bad:
            await asyncio.sleep(_SILENCE_S)
        await self._say(b"220 sink.example ESMTP\r\n")
        while line := await self._reader.readline():
            for recipient in self._answered:
                self._ledger.note("seen", self._number, recipient)
            self._answered = []
            verb = line[:4].upper()
            if verb == b"EHLO":
                await self._say(b"250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"MAIL":
                self._recipients = []
                self._draw()
                self._cut_if("cut-before")
                await self._say(b"250 2.1.0 ok\r\n")
            elif verb == b"RCPT":
                self._recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
                await self._say(b"250 2.1.5 ok\r\n")
            elif verb == b"DATA":
                await self._take_content()
            elif verb == b"QUIT":
                self._writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                await self._say(b"250 2.0.0 ok\r\n")

    async def _take_content(self) -> None:
        # As by a client that did not pipeline: no lie here, it would be taken for another command's answer.
        self._writer.write(b"354 go ahead\r\n")
        size = 0
        while (line := await self._reader.readline()) != b".\r\n":
            if not line:
                raise ConnectionResetError
            size += len(line)
            if size > 600:
                self._cut_if("cut-in")
        delay_s = self._random.random() * _GREATEST_DELAY_S
        # Half of the delay before the ledger and half behind it: a kill meets both.
        await asyncio.sleep(delay_s / 2)
        lie = self._lie()
        if lie is not None:
            for recipient in self._recipients:
                await self._ledger.keep("deny", self._number, recipient)
            await self._tell(lie)
            return
        for recipient in self._recipients:
            await self._ledger.keep("dot", self._number, recipient)
        await asyncio.sleep(delay_s / 2)
        self._cut_if("cut-after")
        self._answered = self._recipients
        await self._say(b"250 2.0.0 taken\r\n", may_lie=False)

    def _draw(self) -> None:
        self._is_bad = self._behaviour != "good" and self._random.random() < 0.5

    def _cut_if(self, behaviour: str) -> None:
        if self._behaviour == behaviour and self._is_bad:
            raise _Cut

    def _lie(self) -> bytes | None:
        if self._behaviour == "lying" and self._is_bad and self._random.random() < 0.3:
            return self._random.choice(_LIES)
        return None

    async def _say(self, answer: bytes, *, may_lie: bool = True) -> None:
        if self._behaviour == "slow" and self._is_bad:
            await asyncio.sleep(1 + 2 * self._random.random())
        await self._tell((self._lie() if may_lie else None) or answer)

    async def _tell(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()
        if octets == _UNFINISHED:
            raise _Cut


async def _listen(ledger: Ledger, port: int, seed: str) -> None:
    host = Host(ledger, seed)
    addresses = [address for name, address in HOSTS.items() if name != "dead"]
    servers = [await asyncio.start_server(host.take, address, port, backlog=1024) for address in addresses]
    print("listening", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_listen(Ledger(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]))
