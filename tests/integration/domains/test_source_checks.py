"""Source addresses are looked at through the DNS; what is found is kept, and a severe listing pauses the address."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from accounts.audit import Actor
from accounts.models import AuditEntry
from delivery import pools, sources, tasks
from delivery.alerts import rules
from delivery.models import SourceCheck
from delivery.source_checks import checks
from relayweb.env import Endpoint
from tests.support.certificates import Authority
from tests.support.dns_server import Behaviour
from tests.support.loop_thread import LoopThread
from tests.support.ports import find_free_ports
from tests.support.smtp_peer import SmtpPeer

if TYPE_CHECKING:
    from delivery.models import SourceAddress
    from tests.support.dns_server import FakeDns

pytestmark = pytest.mark.django_db
OLIVIA = Actor("olivia@relay.example", is_operator=True)
ADDRESS, OTHER, SIX = "192.0.2.10", "192.0.2.11", "2001:db8::10"
LISTED_AT = "10.2.0.192.zen.spamhaus.org"
SIX_PTR = "0.1" + ".0" * 22 + ".8.b.d.0.1.0.0.2.ip6.arpa"
RECORDS: dict[str, Any] = {
    "10.2.0.192.in-addr.arpa": {"PTR": ["mx1.relay.test."]},
    "11.2.0.192.in-addr.arpa": {"PTR": ["mx2.relay.test."]},
    "mx1.relay.test": {"A": [ADDRESS]},
    "mx2.relay.test": {"A": [OTHER]},
    "bounce.relay.test": {"TXT": ['"v=spf1 ip4:192.0.2.0/24 -all"']},
    "2.0.0.127.zen.spamhaus.org": {"A": ["127.0.0.2"]},
    "2.0.0.127.bl.spamcop.net": {"A": ["127.0.0.2"]},
}


@pytest.fixture
def source(name_server: FakeDns, settings: Any) -> SourceAddress:
    settings.BLOCKLISTS, settings.BLOCKLIST_DNS, settings.SPAMHAUS_KEY = ["spamhaus_zen", "spamcop"], None, ""
    settings.BOUNCE_DOMAIN, settings.RETURNS_BIND, settings.SMTP_PROBES = "bounce.relay.test", [], []
    name_server.records.update(RECORDS)
    sources.add_source(OTHER, actor=OLIVIA, ehlo_name="mx2.relay.test")
    return sources.add_source(ADDRESS, actor=OLIVIA, ehlo_name="mx1.relay.test")


def _look(source: SourceAddress) -> checks.Checked:
    (found,) = checks.check([source])
    source.refresh_from_db()
    return found


def _verdicts(found: checks.Checked) -> dict[str, str]:
    """What the DNS said; the two that need a connection have tests of their own."""
    return {one.check: one.verdict.value for one in found.results if one.check not in {"port_25", "returns_tls"}}


def _result(found: checks.Checked, name: str) -> tuple[str, str]:
    (own,) = [one for one in found.results if one.check == name]
    return own.verdict.value, own.detail


def test_an_address_that_is_as_it_should_be(source: SourceAddress) -> None:
    found = _look(source)

    assert set(_verdicts(found)) == {"reverse_dns", "ehlo", "spf", "blocklist:spamhaus_zen", "blocklist:spamcop"}
    assert set(_verdicts(found).values()) == {"ok"}
    assert SourceCheck.objects.get().state == "ok"


@pytest.mark.parametrize(
    ("name", "records", "check"),
    [
        ("10.2.0.192.in-addr.arpa", {}, "reverse_dns"),
        ("10.2.0.192.in-addr.arpa", {"PTR": ["elsewhere.test."]}, "reverse_dns"),
        ("mx1.relay.test", {"A": ["192.0.2.99"]}, "ehlo"),
        ("10.2.0.192.in-addr.arpa", {"PTR": ["mx2.relay.test."]}, "ehlo"),
        ("bounce.relay.test", {"TXT": ['"v=spf1 ip4:198.51.100.1 -all"']}, "spf"),
        ("bounce.relay.test", {}, "spf"),
    ],
)
def test_what_is_wrong_is_found(
    source: SourceAddress, name_server: FakeDns, name: str, records: Any, check: str
) -> None:
    name_server.records[name] = records

    found = _look(source)

    assert _verdicts(found)[check] == "bad"
    assert found.check.state == "bad"


def test_a_silent_name_server_is_a_failed_check_and_nothing_bad(source: SourceAddress, name_server: FakeDns) -> None:
    for name in ("10.2.0.192.in-addr.arpa", "bounce.relay.test", LISTED_AT, "10.2.0.192.bl.spamcop.net"):
        name_server.behaviours[name] = Behaviour.SERVFAIL

    found = _look(source)

    assert set(_verdicts(found).values()) == {"failed"}
    assert found.check.state == "failed"
    assert source.state == "active"


def test_a_severe_listing_pauses_the_address_with_the_reason_on_record(
    source: SourceAddress, name_server: FakeDns
) -> None:
    name_server.records[LISTED_AT] = {"A": ["127.0.0.3"]}

    found = _look(source)

    assert found.paused
    assert source.state == "paused"
    entry = AuditEntry.objects.get(action="source.pause")
    assert "Spamhaus ZEN: CSS (127.0.0.3)" in entry.reason
    assert source.state_reason == entry.reason


@pytest.mark.parametrize("answer", ["127.255.255.254", "127.255.255.255", "127.0.0.77", "127.0.0.10"])
def test_error_codes_unknown_codes_and_lesser_listings_pause_nothing(
    source: SourceAddress, name_server: FakeDns, answer: str
) -> None:
    name_server.records[LISTED_AT] = {"A": [answer]}

    found = _look(source)

    assert _verdicts(found)["blocklist:spamhaus_zen"] == ("bad" if answer == "127.0.0.10" else "failed")
    assert source.state == "active"


def test_a_list_that_fails_its_self_test_says_nothing(source: SourceAddress, name_server: FakeDns) -> None:
    name_server.records[LISTED_AT] = {"A": ["127.0.0.2"]}
    name_server.records["1.0.0.127.zen.spamhaus.org"] = {"A": ["127.0.0.2"]}

    found = _look(source)

    assert _verdicts(found)["blocklist:spamhaus_zen"] == "failed"
    assert source.state == "active"


def test_who_was_resumed_by_hand_stays_until_a_new_listing(source: SourceAddress, name_server: FakeDns) -> None:
    name_server.records[LISTED_AT] = {"A": ["127.0.0.3"]}
    _look(source)
    sources.resume_source(source, actor=OLIVIA)

    again = _look(source)
    name_server.records[LISTED_AT] = {"A": ["127.0.0.3", "127.0.0.4"]}
    another = _look(source)

    assert not again.paused
    assert "by hand" in again.not_paused
    assert another.paused


def test_a_listing_that_went_and_came_back_pauses_again(source: SourceAddress, name_server: FakeDns) -> None:
    name_server.records[LISTED_AT] = {"A": ["127.0.0.3"]}
    _look(source)
    sources.resume_source(source, actor=OLIVIA)
    name_server.records[LISTED_AT] = {}
    assert not _look(source).paused
    name_server.records[LISTED_AT] = {"A": ["127.0.0.3"]}

    assert _look(source).paused


def test_the_last_address_of_a_pool_goes_on_unless_there_is_a_stand_by(
    source: SourceAddress, name_server: FakeDns
) -> None:
    sources.pause_source(sources.find_source(OTHER), actor=OLIVIA)
    name_server.records[LISTED_AT] = {"A": ["127.0.0.2"]}

    alone = _look(source)
    pools.set_standby(source.pool, pools.add_pool("spare", actor=OLIVIA), actor=OLIVIA)
    source = sources.find_source(ADDRESS)
    backed = _look(source)

    assert (alone.paused, "last address" in alone.not_paused) == (False, True)
    assert backed.paused


def test_each_address_is_looked_at_once_an_hour(source: SourceAddress) -> None:
    tasks.check_sources()
    tasks.check_sources()
    assert SourceCheck.objects.count() == 2

    assert len(checks.check_due(now=timezone.now() + timedelta(hours=1))) == 2
    checks.forget_old(now=timezone.now() + timedelta(days=91))
    assert SourceCheck.objects.count() == 0


def test_ipv6_is_asked_of_lists_that_know_it(source: SourceAddress, name_server: FakeDns) -> None:
    six = sources.add_source(SIX, actor=OLIVIA, ehlo_name="mx6.relay.test")
    name_server.records[SIX_PTR] = {"PTR": ["mx6.relay.test."]}
    name_server.records["mx6.relay.test"] = {"AAAA": [SIX]}
    mapped = ".".join(reversed("00000000000000000000ffff7f000002")) + ".zen.spamhaus.org"
    name_server.records[mapped] = {"A": ["127.0.0.2"]}

    found = _look(six)

    assert _verdicts(found) == {"reverse_dns": "ok", "ehlo": "ok", "spf": "bad", "blocklist:spamhaus_zen": "ok"}


def test_port_25_is_tried_from_the_address_itself(
    source: SourceAddress, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = sources.add_source("127.0.0.1", actor=OLIVIA, ehlo_name="mx7.relay.test")
    assert _result(_look(own), "port_25") == ("skipped", "RELAY_SMTP_PROBES names no host")
    closed = Endpoint("127.0.0.1", find_free_ports(1)[0])

    with LoopThread() as loop:
        peer = loop.run(SmtpPeer(banner=["554 5.7.1 not today"] * 9).__aenter__())
        settings.SMTP_PROBES = [closed, Endpoint("127.0.0.1", peer.port)]
        assert _result(_look(own), "port_25") == ("ok", "127.0.0.1 answers: 554 5.7.1 not today")
        assert peer.connections[0].peer_address == "127.0.0.1"
        verdict, detail = _result(_look(source), "port_25")
        assert (verdict, ADDRESS in detail) == ("failed", True), "nobody else's address speaks for it"

        elsewhere = sources.add_source("127.0.0.2", actor=OLIVIA, ehlo_name="mx8.relay.test", node="far")
        asked: list[Any] = []
        monkeypatch.setattr("celery.current_app.send_task", lambda *said, **more: asked.append((said, more["queue"])))
        assert _result(_look(elsewhere), "port_25") == ("skipped", "its node looks")
        assert asked == [(("delivery.reach_out",), "egress.far")]
        tasks.reach_out("far")
        last = checks.latest(elsewhere)
        assert last is not None and [one["verdict"] for one in last.results if one["check"] == "port_25"] == ["ok"]
        loop.run(peer.__aexit__(None, None, None))

    settings.SMTP_PROBES = [closed]
    found = _look(own)
    assert (_result(found, "port_25")[0], found.check.state) == ("bad", "bad")
    assert "127.0.0.1" in rules.look(now=timezone.now())["closed_outwards"].by_subject
    assert own.state == "active"


def test_the_certificate_for_returned_mail_is_judged_as_strict_senders_do(
    source: SourceAddress, name_server: FakeDns, settings: Any, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path)
    settings.DEVELOPMENT, settings.CA_FILE = False, str(authority.ca_file)
    name_server.records["bounce.relay.test"] |= {"MX": ["10 mx.relay.test."]}
    assert _result(_look(source), "returns_tls") == ("skipped", "RELAY_RETURNS_BIND is off")

    def look(*, name: str = "mx.relay.test", days: int = 60, tls: bool = True) -> checks.Checked:
        context = authority.server_context(name, lasts=timedelta(days=days)) if tls else None
        with LoopThread() as loop:
            peer = loop.run(SmtpPeer(tls=context).__aenter__())
            settings.RETURNS_BIND = [Endpoint("127.0.0.1", peer.port)]
            found = _look(source)
            loop.run(peer.__aexit__(None, None, None))
        return found

    good = look()
    assert _result(good, "returns_tls")[0] == "ok" and "59 days left" in _result(good, "returns_tls")[1]
    other = look(name="other.relay.test")
    assert _result(other, "returns_tls") == ("bad", "it is not for mx.relay.test")
    assert other.check.state == "ok", "it is the installation's, not the address's"
    assert rules.look(now=timezone.now())["returns_tls"].by_subject
    assert "ends soon" in _result(look(days=5), "returns_tls")[1]
    assert _result(look(tls=False), "returns_tls") == ("bad", "it offers no STARTTLS")
    settings.CA_FILE = ""
    assert "not trusted" in _result(look(), "returns_tls")[1]
    settings.RETURNS_BIND = [Endpoint("127.0.0.1", find_free_ports(1)[0])]
    assert _result(_look(source), "returns_tls")[0] == "failed"


def test_private_addresses_are_skipped(source: SourceAddress, name_server: FakeDns) -> None:
    inner = sources.add_source("10.0.0.7", actor=OLIVIA, ehlo_name="mx7.relay.test")
    before = len(name_server.questions)

    found = _look(inner)

    assert set(_verdicts(found).values()) == {"skipped"}
    assert len(name_server.questions) == before


def test_the_command_line_looks_and_shows_former_looks(
    source: SourceAddress, name_server: FakeDns, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    from relayweb.commandline.main import main

    name_server.records["10.2.0.192.in-addr.arpa"] = {}
    assert main(["source", "check", ADDRESS, "--json"]) == 0
    (shown,) = json.loads(capfd.readouterr().out)
    assert main(["source", "check", ADDRESS, "--history", "--json"]) == 0
    (former,) = json.loads(capfd.readouterr().out)
    assert main(["source", "check", "--history"]) == 2

    assert (shown["source"], shown["state"], shown["paused"]) == (ADDRESS, "bad", False)
    assert any("PTR" in line for line in shown["trouble"])
    assert former["results"] == shown["results"]


def test_metrics_say_what_is_wrong_and_what_nobody_knows(source: SourceAddress, name_server: FakeDns) -> None:
    from relayweb.metrics import exposition

    name_server.records["10.2.0.192.in-addr.arpa"] = {}
    name_server.behaviours[LISTED_AT] = Behaviour.SERVFAIL
    _look(source)

    figures = exposition().decode()

    assert f'relayweb_source_trouble{{check="reverse_dns",source="{ADDRESS}"}} 1.0' in figures
    assert f'relayweb_source_trouble{{check="spf",source="{ADDRESS}"}} 0.0' in figures
    assert f'relayweb_source_check_failed{{check="blocklist:spamhaus_zen",source="{ADDRESS}"}} 1.0' in figures


@pytest.mark.django_db(transaction=True)  # it looks through a connection of its own
def test_doctor_names_what_is_wrong(
    source: SourceAddress, name_server: FakeDns, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    from relayweb.commandline.main import main

    name_server.records["10.2.0.192.in-addr.arpa"] = {}
    checks.check()
    capfd.readouterr()

    assert main(["doctor", "--json"]) == 1

    seen = {one["name"]: one for one in json.loads(capfd.readouterr().out)["checks"]}
    assert (seen[f"source {ADDRESS}"]["ok"], seen[f"source {OTHER}"]["ok"]) == (False, True)
    assert "PTR" in seen[f"source {ADDRESS}"]["sentence"]
