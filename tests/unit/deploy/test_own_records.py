"""What `relay doctor` says about the installation's own DNS."""

from __future__ import annotations

import asyncio
from typing import Any

from delivery.dns import Resolver
from relayweb import own_records
from tests.support.dns_server import Behaviour, FakeDns

NAMES = own_records.OwnNames("mx1.example.net", "bounce.example.net", ("mail.example.net",))
WELL: dict[str, Any] = {
    "mx1.example.net": {"A": ["192.0.2.10"]},
    "bounce.example.net": {"MX": ["10 mx1.example.net."], "TXT": ['"v=spf1 ip4:192.0.2.10 -all"']},
    "customer.example._report._dmarc.bounce.example.net": {"TXT": ['"v=DMARC1"']},
    "_dmarc.example.net": {"TXT": ['"v=DMARC1; p=none; rua=mailto:dmarc@bounce.example.net"']},
}


def _look(records: dict[str, Any], silent: str = "") -> dict[str, own_records.Seen]:
    async def ask() -> list[own_records.Seen]:
        behaviours = {silent: Behaviour.SERVFAIL} if silent else {}
        async with FakeDns(records, behaviours=behaviours) as server:
            return await own_records.look(NAMES, Resolver(server.address, 1.0))

    return {seen.name: seen for seen in asyncio.run(ask())}


def test_everything_published_is_well() -> None:
    seen = _look(WELL)

    assert len(seen) == 5
    assert [one for one in seen.values() if not one.is_ok] == []


def test_what_is_missing_is_said_with_the_record_to_publish() -> None:
    seen = _look({})

    assert {one.is_ok for one in seen.values()} == {False}
    assert "bounce.example.net MX 10 mx1.example.net" in seen["MX of bounce.example.net"].sentence
    assert "rua=mailto:dmarc@bounce.example.net" in seen["DMARC of mail.example.net"].sentence


def test_a_dmarc_record_without_rua_is_a_finding() -> None:
    seen = _look({**WELL, "_dmarc.example.net": {"TXT": ['"v=DMARC1; p=reject"']}})

    assert [one.name for one in seen.values() if not one.is_ok] == ["DMARC of mail.example.net"]
    assert "no rua" in seen["DMARC of mail.example.net"].sentence


def test_an_exchanger_without_an_address_is_a_finding() -> None:
    seen = _look({**WELL, "bounce.example.net": {"MX": ["10 gone.example.net."], "TXT": ['"v=spf1 -all"']}})

    assert "gone.example.net has no address" in seen["MX of bounce.example.net"].sentence


def test_a_silent_name_server_is_not_taken_for_a_missing_record() -> None:
    seen = _look(WELL, silent="_dmarc.example.net")

    assert "did not answer" in seen["DMARC of mail.example.net"].sentence
