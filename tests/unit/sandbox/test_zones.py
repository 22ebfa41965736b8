from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from sandbox.in_process import scripted_hosts
from sandbox.layout import lay_out
from sandbox.scenarios import ZoneRecord, read_scenarios
from sandbox.zones import ZoneFileError, Zones, read_zone_file


def built_in() -> Zones:
    layout = lay_out(read_scenarios(), name_server_address="127.0.0.1")
    return Zones(layout.records, faults=layout.faults)


def texts_of(zones: Zones, name: str, rdtype: str) -> list[str]:
    answer = zones.lookup(dns.name.from_text(name), dns.rdatatype.from_text(rdtype))
    return [rdata.to_text() for rrset in answer.rrsets for rdata in rrset]


def test_every_behaviour_can_be_looked_up() -> None:
    zones = built_in()

    assert texts_of(zones, "accept.sandbox.test", "MX") == ["10 mx1.accept.sandbox.test."]
    assert texts_of(zones, "mx1.accept.sandbox.test", "A") == ["127.64.1.2"]
    assert texts_of(zones, "2.1.64.127.in-addr.arpa", "PTR") == ["mx1.accept.sandbox.test."]
    assert texts_of(zones, "null-mx.sandbox.test", "MX") == ["0 ."]
    assert texts_of(zones, "no-mx.sandbox.test", "MX") == []
    assert texts_of(zones, "no-mx.sandbox.test", "A") != []
    assert texts_of(zones, "MX-Alias.sandbox.test", "mx") == ["10 mx1.mx-alias.sandbox.test."]
    assert texts_of(zones, "mx1.mx-alias.sandbox.test", "A")[0] == "host-mx1.mx-alias.sandbox.test."


def test_the_inbox_takes_mail_for_every_name_below_it() -> None:
    for name in ("sandbox.test", "inbox.sandbox.test", "x.inbox.sandbox.test", "y.x.inbox.sandbox.test"):
        assert texts_of(built_in(), name, "MX") == ["10 mx1.inbox.sandbox.test."]


def test_missing_names_empty_names_and_foreign_names_are_told_apart() -> None:
    zones = built_in()

    missing = zones.lookup(dns.name.from_text("nxdomain.sandbox.test"), dns.rdatatype.MX)
    empty = zones.lookup(dns.name.from_text("accept.sandbox.test"), dns.rdatatype.TXT)
    foreign = zones.lookup(dns.name.from_text("example.com"), dns.rdatatype.MX)

    assert (missing.is_ours, missing.exists, missing.authority[0].rdtype) == (True, False, dns.rdatatype.SOA)
    assert (empty.is_ours, empty.exists, empty.authority[0].rdtype) == (True, True, dns.rdatatype.SOA)
    assert not foreign.is_ours


def test_records_of_a_file_are_served_and_followed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.zones._LOOK_EVERY_S", 0.0)
    zones = Zones(folder=tmp_path)
    file = tmp_path / "acme.example.json"
    key = "v=DKIM1; k=rsa; p=" + "A" * 400
    assert texts_of(zones, "acme.example", "MX") == []

    file.write_text(json.dumps([{"name": "s1._domainkey.acme.example", "type": "TXT", "value": key}]))

    assert zones.texts("s1._domainkey.acme.example") == [key]
    parent = zones.lookup(dns.name.from_text("_domainkey.acme.example"), dns.rdatatype.TXT)
    assert parent.exists and parent.is_ours
    assert not zones.lookup(dns.name.from_text("x.acme.example"), dns.rdatatype.TXT).exists
    assert not zones.lookup(dns.name.from_text("other.example"), dns.rdatatype.TXT).is_ours

    records = [{"name": "s1._domainkey.acme.example", "type": "CNAME", "value": "k.relay.example.", "ttl": 60}]
    records.append({"name": "k.relay.example", "type": "TXT", "value": 'a "b" \\ é'})
    file.write_text(json.dumps(records))
    assert zones.texts("s1._domainkey.acme.example") == ['a "b" \\ é']

    file.unlink()
    assert not zones.lookup(dns.name.from_text("acme.example"), dns.rdatatype.TXT).is_ours


def test_a_broken_file_leaves_in_force_what_it_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.zones._LOOK_EVERY_S", 0.0)
    zones = Zones(folder=tmp_path)
    file = tmp_path / "acme.example.json"
    file.write_text(json.dumps([{"name": "acme.example", "type": "TXT", "value": "here"}]))
    assert zones.texts("acme.example") == ["here"]

    file.write_text('[{"name": "acme.exa')

    assert zones.texts("acme.example") == ["here"]


@pytest.mark.parametrize(
    "content",
    ["{}", "[1]", '[{"name": "a.b", "type": "A"}]', '[{"name": "a.b", "type": "A", "value": "x"}]', "nonsense"],
)
def test_a_file_that_cannot_be_served_is_refused_with_a_reason(tmp_path: Path, content: str) -> None:
    file = tmp_path / "z.json"
    file.write_text(content)

    with pytest.raises(ZoneFileError):
        read_zone_file(file)


def ask(server: tuple[str, int], name: str, rdtype: str = "MX", *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, server[0], port=server[1], timeout=5)


def test_the_name_server_answers_over_udp_and_tcp_and_makes_the_faults_it_is_asked_for() -> None:
    layout = lay_out(read_scenarios(), name_server_address="127.0.0.1")
    many = [ZoneRecord("many.sandbox.test", "TXT", f"{number} " + "x" * 200) for number in range(10)]
    with scripted_hosts({}, zones=[*layout.records, *many], faults=layout.faults) as hosts:
        server = hosts.name_server
        assert server is not None

        found = ask(server, "accept.sandbox.test")
        assert (found.rcode(), bool(found.flags & dns.flags.AA), found.answer[0].ttl) == (dns.rcode.NOERROR, True, 5)
        assert ask(server, "accept.sandbox.test", tcp=True).answer == found.answer
        assert ask(server, "nxdomain.sandbox.test").rcode() == dns.rcode.NXDOMAIN
        assert ask(server, "example.com").rcode() == dns.rcode.REFUSED
        assert ask(server, "servfail.sandbox.test").rcode() == dns.rcode.SERVFAIL
        assert ask(server, "dns-truncated.sandbox.test").flags & dns.flags.TC
        assert ask(server, "dns-truncated.sandbox.test", tcp=True).answer
        assert ask(server, "many.sandbox.test", "TXT").flags & dns.flags.TC
        assert len(ask(server, "many.sandbox.test", "TXT", tcp=True).answer[0]) == 10
        with pytest.raises(dns.exception.Timeout):
            dns.query.udp(
                dns.message.make_query("dns-timeout.sandbox.test", "MX"), server[0], port=server[1], timeout=0.3
            )


def test_rubbish_does_not_stop_the_name_server() -> None:
    with scripted_hosts({}, zones=[ZoneRecord("sandbox.test", "A", "127.64.0.1")]) as hosts:
        assert hosts.name_server is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            for rubbish in (b"", b"x", b"\xff" * 40, struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\x3fshort"):
                client.sendto(rubbish, hosts.name_server)
            answer = client.recv(100)

        assert answer[:2] == struct.pack("!H", 7)
        assert answer[3] & 0x0F == dns.rcode.FORMERR
        started = time.monotonic()
        assert ask(hosts.name_server, "sandbox.test", "A").answer
        assert time.monotonic() - started < 5
