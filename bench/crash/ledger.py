"""What was seen, a line a fact, on disk before anybody is told: ``kind moment words…``.

Moments are of time.monotonic(), which is one clock for all processes of a machine. Whoever waits for the disk at the same time
shares one fsync. A torn last line is not read: nobody was told what it says.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fact:
    kind: str
    at: float
    words: tuple[str, ...]


class Ledger:
    """Written by one process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    def note(self, kind: str, *words: object) -> None:
        """Written at once; what survives the machine is not promised."""
        os.write(self._descriptor, _line(kind, words))

    async def keep(self, kind: str, *words: object) -> None:
        """Returns once the line is on disk. A caller that is cancelled does not take it back."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((_line(kind, words).decode(), kept))
        if self._flusher is None or self._flusher.done():
            self._flusher = loop.create_task(self._flush())
        await asyncio.shield(kept)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together, self._waiting = self._waiting, []
            text = "".join(line for line, _ in together)
            await loop.run_in_executor(self._thread, self._write, text.encode())
            for _, kept in together:
                kept.set_result(None)

    def _write(self, octets: bytes) -> None:
        os.write(self._descriptor, octets)
        os.fsync(self._descriptor)


def _line(kind: str, words: tuple[object, ...]) -> bytes:
    return " ".join([kind, f"{time.monotonic():.6f}", *map(str, words)]).encode() + b"\n"


class Reader:
    """Follows a ledger that somebody else writes; ``facts`` grows with each ``read``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.facts: list[Fact] = []

    def read(self) -> list[Fact]:
        """All facts so far."""
        if not self._path.exists():
            return self.facts
        with self._path.open("rb") as file:
            file.seek(self._offset)
            octets = file.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            kind, at, *words = line.split(" ")
            self.facts.append(Fact(kind, float(at), tuple(words)))
        return self.facts
