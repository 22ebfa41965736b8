"""Where received mail goes: a folder of `.eml` files with a ledger, or memory for tests.

The ledger is the witness in fault tests: its line is on disk, fsync'ed, before anybody is answered 250. Sessions that
wait at the same time share one fsync. What cannot be stored raises `OSError` in `record`; the host then answers 452
and nothing of the mail remains. A torn last line (killed while writing) was never answered and is cut off at `open`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

IN_MEMORY_BYTES = 1024 * 1024
_MAX_BATCH = 500


class Kind(StrEnum):
    """ACCEPTED: answered 2yz. DROPPED: received completely, and never answered."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"


class Spool:
    """The content while it comes in: in memory while it is small, then in a temporary file of the store's folder."""

    def __init__(self, folder: Path | None) -> None:
        self.size = 0
        self.is_handed_over = False  # the store decides now what becomes of it
        self._folder = folder
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def write(self, octets: bytes | bytearray) -> None:
        self.size += len(octets)
        if self._file is None and self._folder is not None and self.size > IN_MEMORY_BYTES:
            descriptor, path = tempfile.mkstemp(dir=self._folder, prefix="incoming-", suffix=".part")
            self._file, self._path = os.fdopen(descriptor, "w+b"), Path(path)
            self._file.write(self._memory)
            self._memory.clear()
        if self._file is None:
            self._memory += octets
        else:
            self._file.write(octets)

    def read(self) -> bytes:
        if self._file is None:
            return bytes(self._memory)
        self._file.seek(0)
        return self._file.read()

    def has_8bit(self) -> bool:
        return not self.read().isascii()

    def move_to(self, target: Path) -> str:
        """Put the content into a file of its own; returns its SHA-256 in hexadecimal."""
        if self._file is None or self._path is None:
            target.write_bytes(self._memory)
            return hashlib.sha256(self._memory).hexdigest()
        self._file.flush()
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]
        self._path.chmod(0o644)
        self._path.replace(target)
        self._file.close()
        self._file = self._path = None
        return digest

    def discard(self) -> None:
        self._memory.clear()
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = self._path = None


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """One mail transaction that reached its final dot, with what was known about its session."""

    kind: Kind
    behaviour: str
    host: str
    address: str
    peer: str
    ehlo: str
    tls: dict[str, str] | None
    reverse_path: str
    recipients: tuple[str, ...]
    parameters: tuple[str, ...]
    spool: Spool
    id: str = field(default_factory=lambda: new_mail_id())
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def content(self) -> bytes:
        return self.spool.read()

    def ledger_entry(self, *, sha256: str, file: str | None) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "id": self.id,
            "time": self.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "behaviour": self.behaviour,
            "host": self.host,
            "address": self.address,
            "peer": self.peer,
            "ehlo": self.ehlo,
            "tls": self.tls,
            "reverse_path": self.reverse_path,
            "recipients": list(self.recipients),
            "parameters": list(self.parameters),
            "size": self.spool.size,
            "sha256": sha256,
            "file": file,
        }


class MailStore(Protocol):
    """What a host needs of a store."""

    spool_folder: Path | None

    async def record(self, mail: ReceivedMail) -> None:
        """Once this returns, the mail may be answered 250. Raises `OSError` when it cannot be kept."""


def new_mail_id() -> str:
    """Ids sort by time, and are at home in file names and URLs."""
    stamp = format(time.time_ns() // 1000, "014x")
    return f"{stamp}-{base64.b32encode(os.urandom(5)).decode('ascii').lower()}"


class FolderStore:
    """`inbox/<id>.eml` holds exactly the received bytes; `ledger.jsonl` the envelope."""

    def __init__(self, folder: Path) -> None:
        self.inbox_folder = folder / "inbox"
        self.ledger_file = folder / "ledger.jsonl"
        self.spool_folder: Path | None = self.inbox_folder
        self._ledger = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-ledger")
        self._waiting: list[tuple[ReceivedMail, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None

    def open(self) -> None:
        self.inbox_folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.inbox_folder.glob("incoming-*.part"):
            leftover.unlink(missing_ok=True)
        self._ledger = os.open(self.ledger_file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._ledger, _end_of_last_line(self._ledger))

    async def close(self) -> None:
        if self._committer is not None:
            await self._committer
        self._thread.shutdown()
        if self._ledger >= 0:
            os.close(self._ledger)
            self._ledger = -1

    async def record(self, mail: ReceivedMail) -> None:
        loop = asyncio.get_running_loop()
        recorded: asyncio.Future[None] = loop.create_future()
        self._waiting.append((mail, recorded))
        if self._committer is None or self._committer.done():
            self._committer = loop.create_task(self._commit_waiting())
        await asyncio.shield(recorded)

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                await loop.run_in_executor(self._thread, self._commit, [mail for mail, _ in batch])
            except OSError as error:
                for _, recorded in batch:
                    recorded.set_exception(error)
                    recorded.exception()  # whoever waited may be gone; then nobody else would look
            else:
                for _, recorded in batch:
                    recorded.set_result(None)

    def _commit(self, mails: Sequence[ReceivedMail]) -> None:
        end = os.lseek(self._ledger, 0, os.SEEK_END)
        files: list[Path] = []
        lines = bytearray()
        try:
            for mail in mails:
                file = self.inbox_folder / f"{mail.id}.eml"
                files.append(file)
                digest = mail.spool.move_to(file)
                lines += _as_line(mail.ledger_entry(sha256=digest, file=file.name))
            _write_all(self._ledger, lines)
            os.fsync(self._ledger)
        except OSError:
            os.ftruncate(self._ledger, end)
            for mail in mails:
                mail.spool.discard()
            for file in files:
                file.unlink(missing_ok=True)
            raise


class MemoryStore:
    """Keeps the mail in a list, and lets a test wait for it, inside the event loop or from another thread."""

    def __init__(self) -> None:
        self.spool_folder: Path | None = None
        self.mails: list[ReceivedMail] = []
        self._arrived = threading.Condition()
        self._watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def record(self, mail: ReceivedMail) -> None:
        with self._arrived:
            self.mails.append(mail)
            self._arrived.notify_all()
            watchers = list(self._watchers)
        for loop, event in watchers:
            loop.call_soon_threadsafe(event.set)

    def accepted(self, recipient: str | None = None) -> list[ReceivedMail]:
        mails = [mail for mail in list(self.mails) if mail.kind is Kind.ACCEPTED]
        return mails if recipient is None else [mail for mail in mails if recipient in mail.recipients]

    def wait_for(self, count: int, *, within_s: float = 10.0, recipient: str | None = None) -> list[ReceivedMail]:
        """Block until `count` mails are accepted; raises `TimeoutError` that says how many there were."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.accepted(recipient)) >= count, within_s)
        return self._enough(count, recipient)

    async def until(self, count: int, *, within_s: float = 10.0, recipient: str | None = None) -> list[ReceivedMail]:
        """The same for a caller inside an event loop."""
        watcher = (asyncio.get_running_loop(), asyncio.Event())
        self._watchers.append(watcher)
        try:
            async with asyncio.timeout(within_s):
                while len(self.accepted(recipient)) < count:
                    await watcher[1].wait()
                    watcher[1].clear()
        except TimeoutError:
            return self._enough(count, recipient)
        finally:
            self._watchers.remove(watcher)
        return self.accepted(recipient)

    def _enough(self, count: int, recipient: str | None) -> list[ReceivedMail]:
        mails = self.accepted(recipient)
        if len(mails) < count:
            raise TimeoutError(f"{len(mails)} of {count} mails have been accepted")
        return mails


def _as_line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _write_all(descriptor: int, octets: bytes | bytearray) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def _end_of_last_line(descriptor: int) -> int:
    position = os.lseek(descriptor, 0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0
