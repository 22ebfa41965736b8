from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from delivery.core.content import check_lines, read_header_section
from delivery.core.trace import count_received, date_field, message_id_field, own_message_ids, received_field

NOW = datetime(2026, 11, 24, 5, 32, 7, tzinfo=UTC)
MESSAGE_ID = UUID("01a20bdd-6491-7e20-82bc-499b8dd7a276")


def received(ehlo: str = "mail.acme.example", peer: str = "192.0.2.7", tls: str | None = None) -> bytes:
    return received_field(
        ehlo=ehlo, peer=peer, by="relay.example", protocol="ESMTPSA", message_id=MESSAGE_ID, now=NOW, tls=tls
    )


def test_the_received_field_says_who_when_and_how() -> None:
    assert received(tls="TLSv1.3 TLS_AES_256_GCM_SHA384") == (
        b"Received: from mail.acme.example ([192.0.2.7])\r\n"
        b"\tby relay.example with ESMTPSA\r\n"
        b"\tid 01a20bdd-6491-7e20-82bc-499b8dd7a276\r\n"
        b"\t(TLSv1.3 TLS_AES_256_GCM_SHA384);\r\n"
        b"\tTue, 24 Nov 2026 05:32:07 +0000\r\n"
    )


def test_an_ipv6_peer_is_tagged() -> None:
    assert b"([IPv6:2001:db8::7])" in received(peer="2001:db8::7")


@given(st.text(max_size=2000), st.text(max_size=200))
def test_no_client_can_break_out_of_the_received_field(ehlo: str, tls: str) -> None:
    field = received(ehlo=ehlo, tls=tls)

    check_lines(field)
    assert len(read_header_section(field + b"\r\n").fields) == 1


def test_missing_fields_are_made() -> None:
    assert date_field(NOW) == b"Date: Tue, 24 Nov 2026 05:32:07 +0000\r\n"
    assert message_id_field(MESSAGE_ID, "relay.example") == (
        b"Message-ID: <01a20bdd-6491-7e20-82bc-499b8dd7a276@relay.example>\r\n"
    )


def test_hops_are_counted_and_ours_recognised() -> None:
    content = received() + b"RECEIVED: by other.example; today\r\n" + b"Subject: received\r\n\r\n"

    section = read_header_section(content)

    assert count_received(section) == 2
    assert own_message_ids(section, "RELAY.example") == [MESSAGE_ID]
    assert own_message_ids(section, "elay.example") == []
