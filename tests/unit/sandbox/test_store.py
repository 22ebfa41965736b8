from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest

from sandbox.ledger import read_newest
from sandbox.store import IN_MEMORY_BYTES, FolderStore, Kind, ReceivedMail, Spool


def a_mail(store: FolderStore, content: bytes, recipient: str = "a@x.test") -> ReceivedMail:
    spool = Spool(store.spool_folder)
    spool.write(content)
    return ReceivedMail(
        kind=Kind.ACCEPTED,
        behaviour="accept",
        host="mx1.accept.sandbox.test",
        address="127.64.1.2",
        peer="127.0.0.1",
        ehlo="relay.test",
        tls=None,
        reverse_path="",
        recipients=(recipient,),
        parameters=(),
        spool=spool,
    )


def keep(folder: Path, *contents: bytes) -> FolderStore:
    store = FolderStore(folder)

    async def run() -> None:
        store.open()
        mails = [a_mail(store, content, f"r{number}@x.test") for number, content in enumerate(contents)]
        await asyncio.gather(*(store.record(mail) for mail in mails))
        await store.close()

    folder.mkdir(exist_ok=True)
    store.inbox_folder.mkdir(exist_ok=True)
    asyncio.run(run())
    return store


def test_a_file_holds_the_received_bytes_and_the_ledger_the_rest(tmp_path: Path) -> None:
    content = b"Subject: x\r\n\r\nline\nand\r\n"

    store = keep(tmp_path, content)

    [entry] = read_newest(store.ledger_file, limit=10).entries
    assert (store.inbox_folder / entry["file"]).read_bytes() == content
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert (entry["kind"], entry["size"], entry["recipients"]) == ("accepted", len(content), ["r0@x.test"])
    assert {"id", "time", "host", "peer", "ehlo", "tls", "reverse_path"} <= entry.keys()


def test_a_large_mail_does_not_stay_in_memory(tmp_path: Path) -> None:
    content = os.urandom(3 * IN_MEMORY_BYTES)

    store = keep(tmp_path, content)

    [entry] = read_newest(store.ledger_file, limit=10).entries
    assert (store.inbox_folder / entry["file"]).read_bytes() == content
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert [file.name for file in store.inbox_folder.iterdir()] == [entry["file"]]


def test_mails_that_wait_together_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)

    store = keep(tmp_path, *[b"x"] * 100)

    assert len(read_newest(store.ledger_file, limit=1000).entries) == 100
    assert len(synced) <= 3


def test_nothing_remains_of_mail_that_cannot_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = keep(tmp_path, b"before")
    before = store.ledger_file.read_bytes()
    failing = FolderStore(tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        failing.open()
        with pytest.raises(OSError, match="No space"):
            await failing.record(a_mail(failing, b"lost"))
        await failing.close()

    monkeypatch.setattr(os, "fsync", no_space)
    asyncio.run(run())

    assert store.ledger_file.read_bytes() == before
    assert len(list(store.inbox_folder.iterdir())) == 1


def test_a_torn_last_line_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    store = keep(tmp_path, b"one")
    whole = store.ledger_file.read_bytes()
    store.ledger_file.write_bytes(whole + b'{"kind": "acc')

    keep(tmp_path, b"two")

    lines = store.ledger_file.read_bytes().splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["kind"] == "accepted" for line in lines)


def test_the_ledger_is_read_from_its_end_page_by_page(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    padding = "x" * 3000
    lines = [
        {"id": str(number), "recipients": [f"r{number % 2}@x.test"], "file": "", "p": padding} for number in range(500)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    seen, before = [], None
    while True:
        page = read_newest(file, limit=70, before=before)
        seen += [entry["id"] for entry in page.entries]
        before = page.older
        if before is None:
            break

    assert seen == [str(number) for number in reversed(range(500))]
    odd = read_newest(file, limit=1000, recipient="R1@x.test").entries
    assert [entry["id"] for entry in odd] == [str(number) for number in reversed(range(500)) if number % 2]
    assert [entry["id"] for entry in read_newest(file, limit=1, mail_id="17").entries] == ["17"]


def test_an_empty_or_missing_ledger_has_no_mail(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert read_newest(tmp_path / "empty", limit=5).entries == []
    assert read_newest(tmp_path / "missing", limit=5).entries == []
