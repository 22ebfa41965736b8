"""What is made of a domain's records: values in, findings out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from delivery import spf
from delivery.dns import DnsFailureKind
from delivery.domain_answers import Answer, Answers, Wanted, WantedKey, report_domains
from delivery.domain_checks import Finding, Observation, Proof, RecordCheck, judge, merge_spf, wanted_records
from delivery.domain_watch import LAPSE_LOOKS, Standing, next_standing

KEY_1, KEY_2 = "v=DKIM1; k=rsa; p=AAAA", "v=DKIM1; k=rsa; p=BBBB"
WANTED = Wanted(
    domain="acme.example",
    registered_domain="acme.example",
    ownership_value="relay-verify=abc",
    keys=(
        WantedKey("rw1", "rw1.x.dkim.relay.test", KEY_1),
        WantedKey("rw2", "rw2.x.dkim.relay.test", KEY_2),
    ),
    bounce_target="bounce.relay.test",
    spf_include="bounce.relay.test",
)
NOTHING = Answer()
NXDOMAIN = Answer(failure=DnsFailureKind.NXDOMAIN)
SERVFAIL = Answer(failure=DnsFailureKind.SERVFAIL, is_unknown=True)


def _said(*values: str) -> Answer:
    return Answer(values)


PERFECT = Answers(
    ownership=_said("relay-verify=abc"),
    ownership_doubled=NXDOMAIN,
    cnames={"rw1": _said("rw1.x.dkim.relay.test"), "rw2": _said("rw2.x.dkim.relay.test")},
    keys={"rw1": _said(KEY_1), "rw2": _said(KEY_2)},
    key_addresses={"rw1": NOTHING, "rw2": NOTHING},
    bounce_cname=_said("bounce.relay.test"),
    bounce_others=NOTHING,
    spf=_said("v=spf1 include:bounce.relay.test -all", "google-site-verification=1"),
    dmarc=_said("v=DMARC1; p=quarantine"),
    parent_dmarc=_said("v=DMARC1; p=quarantine"),
    mx=_said("mx.acme.example"),
    addresses=NOTHING,
)


def _record(observation: Observation, purpose: str, kind: str = "TXT", selector: str = "") -> RecordCheck:
    return next(
        record
        for record in observation.records
        if record.purpose == purpose and record.type == kind and record.name.startswith(selector)
    )


def _findings(observation: Observation) -> set[Finding]:
    return {record.finding for record in observation.records if record.finding}


def test_a_domain_with_everything_has_no_finding() -> None:
    observation = judge(WANTED, PERFECT)

    assert observation.proof == Proof.GIVEN
    assert observation.seen_selectors == {"rw1", "rw2"}
    assert observation.sees_bounce_host
    assert all(record.ok for record in observation.records)
    assert not _findings(observation)


def test_the_records_to_set_name_each_key_by_cname_and_as_text() -> None:
    records = [(record.purpose, record.type, record.name, record.value) for record in wanted_records(WANTED)]

    assert records == [
        ("ownership", "TXT", "_relay.acme.example", "relay-verify=abc"),
        ("dkim", "CNAME", "rw1._domainkey.acme.example", "rw1.x.dkim.relay.test"),
        ("dkim", "CNAME", "rw2._domainkey.acme.example", "rw2.x.dkim.relay.test"),
        ("dkim", "TXT", "rw1._domainkey.acme.example", KEY_1),
        ("dkim", "TXT", "rw2._domainkey.acme.example", KEY_2),
        ("bounce", "CNAME", "bounce.acme.example", "bounce.relay.test"),
        ("spf", "TXT", "acme.example", "v=spf1 include:bounce.relay.test ~all"),
        ("dmarc", "TXT", "_dmarc.acme.example", "v=DMARC1; p=none"),
    ]


@pytest.mark.parametrize(
    ("ownership", "doubled", "mx", "proof", "finding"),
    [
        (NXDOMAIN, NXDOMAIN, NOTHING, Proof.MISSING, Finding.OWNERSHIP_MISSING),
        (NOTHING, NXDOMAIN, NOTHING, Proof.MISSING, Finding.OWNERSHIP_MISSING),
        (_said('"relay-verify=abc"'), NXDOMAIN, NOTHING, Proof.MISSING, Finding.OWNERSHIP_DIFFERS),
        (_said("relay-verify=abcd"), NXDOMAIN, NOTHING, Proof.MISSING, Finding.OWNERSHIP_DIFFERS),
        (NXDOMAIN, _said("relay-verify=abc"), NOTHING, Proof.MISSING, Finding.NAME_DOUBLED),
        (NXDOMAIN, NXDOMAIN, NXDOMAIN, Proof.MISSING, Finding.NO_SUCH_DOMAIN),
        (SERVFAIL, NXDOMAIN, NOTHING, Proof.UNKNOWN, Finding.DNS_NOT_ANSWERING),
        (_said("other", " relay-verify=abc "), NXDOMAIN, NOTHING, Proof.GIVEN, None),
    ],
)
def test_ownership(ownership: Answer, doubled: Answer, mx: Answer, proof: Proof, finding: Finding | None) -> None:
    observation = judge(WANTED, replace(PERFECT, ownership=ownership, ownership_doubled=doubled, mx=mx))

    assert observation.proof == proof
    assert _record(observation, "ownership").finding == finding
    assert _record(observation, "ownership").ok == (proof == Proof.GIVEN)


@pytest.mark.parametrize(
    ("cname", "text", "address", "finding"),
    [
        (NXDOMAIN, NXDOMAIN, NXDOMAIN, Finding.DKIM_MISSING),
        (_said("elsewhere.example"), NXDOMAIN, NOTHING, Finding.DKIM_ELSEWHERE),
        (NOTHING, NOTHING, _said("192.0.2.1"), Finding.DKIM_PROXIED),
        (NOTHING, _said("v=DKIM1; p=OLD"), NOTHING, Finding.DKIM_OLD_KEY),
        (SERVFAIL, SERVFAIL, SERVFAIL, Finding.DNS_NOT_ANSWERING),
    ],
)
def test_a_key_that_is_not_seen_says_why(cname: Answer, text: Answer, address: Answer, finding: Finding) -> None:
    answers = replace(
        PERFECT,
        cnames={**PERFECT.cnames, "rw1": cname},
        keys={**PERFECT.keys, "rw1": text},
        key_addresses={**PERFECT.key_addresses, "rw1": address},
    )

    observation = judge(WANTED, answers)

    assert observation.seen_selectors == {"rw2"}
    assert _record(observation, "dkim", "CNAME", "rw1").finding == finding


def test_a_missing_second_key_is_only_a_warning() -> None:
    answers = replace(PERFECT, cnames={**PERFECT.cnames, "rw2": NXDOMAIN}, keys={**PERFECT.keys, "rw2": NXDOMAIN})

    assert _findings(judge(WANTED, answers)) == {Finding.DKIM_SECOND_MISSING}


def test_a_key_published_as_text_is_as_good_as_the_cname() -> None:
    answers = replace(
        PERFECT,
        cnames={"rw1": NOTHING, "rw2": NOTHING},
        keys={"rw1": _said("k=rsa; v=DKIM1; p=AA AA"), "rw2": _said(KEY_2)},
    )

    observation = judge(WANTED, answers)

    assert observation.seen_selectors == {"rw1", "rw2"}
    assert _record(observation, "dkim", "TXT", "rw1").ok
    assert not _record(observation, "dkim", "CNAME", "rw1").ok
    assert not _findings(observation)


def test_a_right_cname_that_leads_to_another_key_is_ours_to_mend() -> None:
    answers = replace(PERFECT, keys={**PERFECT.keys, "rw1": _said("v=DKIM1; p=OLD")})

    observation = judge(WANTED, answers)

    assert "rw1" not in observation.seen_selectors
    assert _findings(observation) == {Finding.DKIM_KEY_CHANGING}


@pytest.mark.parametrize(
    ("cname", "others", "finding"),
    [
        (NXDOMAIN, NOTHING, Finding.BOUNCE_MISSING),
        (_said("x.example"), NOTHING, Finding.BOUNCE_ELSEWHERE),
        (NOTHING, _said("MX", "TXT"), Finding.BOUNCE_CONFLICT),
        (SERVFAIL, NOTHING, Finding.DNS_NOT_ANSWERING),
    ],
)
def test_the_bounce_name(cname: Answer, others: Answer, finding: Finding) -> None:
    observation = judge(WANTED, replace(PERFECT, bounce_cname=cname, bounce_others=others))

    assert not observation.sees_bounce_host
    assert _findings(observation) == {finding}


@pytest.mark.parametrize(
    ("texts", "finding"),
    [
        ((), Finding.SPF_MISSING),
        (("v=spf10 -all",), Finding.SPF_MISSING),
        (("v=spf1 mx -all",), Finding.SPF_INCLUDE_MISSING),
        (("v=spf1 mx -all", "v=spf1 a -all"), Finding.SPF_TWICE),
        (("v=spf1 include:bounce.relay.test +all",), Finding.SPF_ALLOWS_ALL),
        (("v=spf1 all",), Finding.SPF_ALLOWS_ALL),
        (("V=SPF1 +include:Bounce.Relay.Test ~all",), None),
    ],
)
def test_spf(texts: tuple[str, ...], finding: Finding | None) -> None:
    observation = judge(WANTED, replace(PERFECT, spf=_said(*texts)))

    assert _record(observation, "spf").finding == finding


@pytest.mark.parametrize(
    ("records", "merged"),
    [
        ((), "v=spf1 include:us.example ~all"),
        (("v=spf1 mx -all",), "v=spf1 mx include:us.example -all"),
        (("v=spf1 mx +all",), "v=spf1 mx include:us.example ~all"),
        (("v=spf1 mx ~all", "v=spf1 a mx -all"), "v=spf1 mx a include:us.example ~all"),
        (("v=spf1 include:us.example -all",), "v=spf1 include:us.example -all"),
        (("v=spf1 redirect=other.example",), "v=spf1 redirect=other.example include:us.example"),
    ],
)
def test_an_spf_record_is_advised_that_keeps_what_was_there(records: tuple[str, ...], merged: str) -> None:
    assert merge_spf(records, "us.example") == merged


@pytest.mark.parametrize(
    ("own", "parent", "ok", "finding"),
    [
        (_said("v=DMARC1; p=none"), NOTHING, True, Finding.DMARC_ONLY_WATCHES),
        (_said("v=DMARC1; rua=mailto:a@b.example"), NOTHING, True, Finding.DMARC_ONLY_WATCHES),
        (NXDOMAIN, _said("v=DMARC1; p=reject"), True, None),
        (NXDOMAIN, NXDOMAIN, False, Finding.DMARC_MISSING),
        (_said("v=DMARC1; p=maybe"), NOTHING, False, Finding.DMARC_INVALID),
        (_said("v=DMARC1; p=none", "v=DMARC1; p=reject"), NOTHING, False, Finding.DMARC_INVALID),
        (SERVFAIL, NXDOMAIN, False, Finding.DNS_NOT_ANSWERING),
    ],
)
def test_dmarc(own: Answer, parent: Answer, ok: bool, finding: Finding | None) -> None:
    record = _record(judge(WANTED, replace(PERFECT, dmarc=own, parent_dmarc=parent)), "dmarc")

    assert (record.ok, record.finding) == (ok, finding)


def test_a_domain_that_takes_no_mail_is_a_problem() -> None:
    assert _findings(judge(WANTED, replace(PERFECT, mx=_said("")))) == {Finding.NULL_MX}
    assert _findings(judge(WANTED, replace(PERFECT, mx=NOTHING))) == {Finding.NO_MX}
    assert not _findings(judge(WANTED, replace(PERFECT, mx=NOTHING, addresses=_said("192.0.2.1"))))
    assert not _findings(judge(WANTED, replace(PERFECT, mx=SERVFAIL)))


# ---------------------------------------------------------------- what it means for the domain

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)


def test_the_countdown_needs_both_time_and_looks() -> None:
    standing = Standing("verified", is_assumed=False, failing_since=NOW - 3 * DAY, misses=LAPSE_LOOKS - 1)

    assert next_standing(standing, Proof.MISSING, now=NOW, recheck=DAY).state == "lapsed"
    early = next_standing(standing, Proof.MISSING, now=NOW - timedelta(minutes=1), recheck=DAY)
    assert early.state == "verified"


def test_an_unknown_answer_changes_nothing() -> None:
    standing = Standing("verified", is_assumed=False, failing_since=NOW - 30 * DAY, misses=9)

    assert next_standing(standing, Proof.UNKNOWN, now=NOW, recheck=DAY) == standing


def test_a_shorter_recheck_period_shortens_the_countdown() -> None:
    standing = Standing("verified", is_assumed=False, failing_since=NOW - timedelta(seconds=6), misses=5)

    assert next_standing(standing, Proof.MISSING, now=NOW, recheck=timedelta(seconds=2)).state == "lapsed"


@pytest.mark.parametrize(
    ("record", "tree", "finding"),
    [
        ("v=spf1 ip4:192.0.2.300 ~all", None, Finding.SPF_SYNTAX),
        (
            "v=spf1 include:old.example ~all",
            spf.Tree((spf.Branch("include:old.example", "old.example", 12),)),
            Finding.SPF_TOO_MANY_LOOKUPS,
        ),
        ("v=spf1 include:gone.example ~all", spf.Tree((), broken=("gone.example",)), Finding.SPF_INCLUDE_BROKEN),
        (
            f"v=spf1 include:{WANTED.spf_include} a:old.example ~all",
            spf.Tree((), voids=("old.example",)),
            Finding.SPF_DEAD_NAMES,
        ),
    ],
)
def test_what_the_spf_tree_shows(record: str, tree: spf.Tree | None, finding: Finding) -> None:
    observation = judge(WANTED, replace(PERFECT, spf=_said(record), spf_tree=tree))

    assert _record(observation, "spf").finding == finding


@pytest.mark.parametrize(
    ("record", "permissions", "finding"),
    [
        ("v=DMARC1; p=reject; adkim=s", {}, Finding.DMARC_STRICT),
        ("v=DMARC1; p=reject; rua=mailto:x@else.example", {"else.example": _said()}, Finding.DMARC_REPORTS_REFUSED),
        ("v=DMARC1; p=reject; rua=mailto:x@else.example", {"else.example": _said("v=DMARC1")}, None),
        ("v=DMARC1; p=reject; rua=mailto:x@else.example", {"else.example": Answer(is_unknown=True)}, None),
    ],
)
def test_dmarc_reports_and_strictness(record: str, permissions: dict[str, Answer], finding: Finding | None) -> None:
    observation = judge(WANTED, replace(PERFECT, dmarc=_said(record), report_permissions=permissions))

    assert _record(observation, "dmarc").finding == finding


def test_only_foreign_receivers_of_reports_need_a_permission() -> None:
    assert report_domains("v=DMARC1; rua=mailto:a@one.example!10m, mailto:b@two.example") == [
        "one.example",
        "two.example",
    ]
