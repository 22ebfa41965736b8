"""Aggregate reports, as receivers write them and as an enemy would."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from datetime import UTC, datetime

import pytest

from delivery.core.aggregates import Damaged, find_aggregates, read_aggregate_file
from delivery.core.dmarc import MAX_ROWS, AggregateReport, ReportError, read_aggregate_report
from delivery.core.tls_reports import TlsReport, read_tls_report
from delivery.core.unpacking import MAX_OCTETS, UnpackError, unpack
from tests.support.aggregates import dmarc_mail, dmarc_xml, mail_with, record, tls_json, tls_mail, zipped


def read(*records: str, **more: str) -> AggregateReport:
    return read_aggregate_report(dmarc_xml(*records, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", ["", "http://dmarc.org/dmarc-xml/0.1", "urn:ietf:params:xml:ns:dmarc-2.0"])
def test_both_formats_are_read(namespace: str) -> None:
    report = read(record("192.0.2.10", 3), record("2001:db8::1", 4, dkim="fail"), namespace=namespace)

    assert (report.reporter, report.report_id, report.policy.domain, report.policy.p) == (
        "receiver.example", "r-1", "acme.example", "none",
    )  # fmt: skip
    assert report.begins_at == datetime(2025, 11, 23, tzinfo=UTC)
    assert [(one.source, one.count, one.passes) for one in report.senders] == [
        ("2001:db8::1", 4, False), ("192.0.2.10", 3, True),
    ]  # fmt: skip


def test_like_rows_are_one() -> None:
    report = read(record(count=3), record(count=4), record(count=1, disposition="reject"))

    assert [(one.count, one.disposition) for one in report.senders] == [(7, "none"), (1, "reject")]


def test_of_several_signatures_the_one_that_passed_is_shown() -> None:
    two = "<auth_results><dkim><domain>esp.example</domain><result>fail</result></dkim><dkim><domain>acme.example</domain>"
    both = record().replace("<auth_results><dkim><domain>acme.example</domain>", two)

    (sender,) = read(both).senders

    assert (sender.dkim_domain, sender.dkim_result) == ("acme.example", "pass")


def test_words_that_are_none_of_the_rfcs_are_not_believed() -> None:
    (sender,) = read(record(disposition="<b>x</b>", spf="excellent")).senders

    assert (sender.disposition, sender.spf_result, sender.spf) == ("", "", False)


@pytest.mark.parametrize(
    "broken",
    [record("nobody", 3), record(count="many"), record(count=""), record("192.0.2.10.5", 1), record("fe80::1%eth0", 1)],
)
def test_a_damaged_row_costs_the_others_nothing(broken: str) -> None:
    report = read(broken, record("192.0.2.20", 5))

    assert [one.source for one in report.senders] == ["192.0.2.20"]
    assert report.damaged_rows == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (dmarc_xml(domain="not a domain"), "no_domain"),
        (dmarc_xml(report_id=""), "no_report_id"),
        (dmarc_xml(end=1963942399), "no_period"),
        (b"<feedback><report_metadata>", "no_xml"),
        (b"<html><body>feedback</body></html>", "not_dmarc"),
        (b"no xml at all", "no_xml"),
        (b"", "no_xml"),
        (dmarc_xml(prologue='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "document_type"),
        (dmarc_xml(prologue='<!DOCTYPE feedback SYSTEM "http://192.0.2.1/a.dtd">'), "document_type"),
        (dmarc_xml(prologue='<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'), "document_type"),
    ],
)
def test_what_cannot_be_believed_says_why(document: bytes, reason: str) -> None:
    with pytest.raises(ReportError) as raised:
        read_aggregate_report(document)

    assert raised.value.reason == reason


def test_a_report_that_breaks_off_counts_as_far_as_it_goes() -> None:
    whole = dmarc_xml(record("192.0.2.10"), record("192.0.2.20"))

    report = read_aggregate_report(whole[: whole.rindex(b"192.0.2.20")])

    assert ([one.source for one in report.senders], report.is_cut) == (["192.0.2.10"], True)


def test_an_address_has_one_form() -> None:
    report = read(record("::FFFF:192.0.2.10", 3), record("192.0.2.10", 4), record("[2001:DB8::1]", 1))

    assert {(one.source, one.count) for one in report.senders} == {("192.0.2.10", 7), ("2001:db8::1", 1)}


def test_names_do_not_grow_when_they_are_made_small() -> None:
    (sender,) = read(record(header_from="İ" * 255, dkim_domain="İ" * 255)).senders

    assert len(sender.header_from) <= 255 and len(sender.dkim_domain) <= 255


def test_values_are_short_and_printable() -> None:
    report = read(reporter="x\u202eevil" + "y" * 5000)

    assert len(report.reporter) <= 255
    assert "\u202e" not in report.reporter


# ---------------------------------------------------------------- TLS


def test_a_tls_report_is_read() -> None:
    report = read_tls_report(tls_json())

    (policy,) = report.policies
    assert (report.reporter, report.report_id, report.domain) == ("Receiver", "t-1", "acme.example")
    assert (policy.kind, policy.successes, policy.failures) == ("sts", 5326, 303)
    assert (policy.details[0].kind, policy.details[0].count) == ("certificate-expired", 303)


@pytest.mark.parametrize(
    "document",
    [
        b"{}", b"[]", b"[" * 100_000, tls_json(policies=[]), tls_json(policies={}), tls_json(**{"report-id": ""}),
        tls_json(domain="no domain"), tls_json(**{"date-range": {}}), b'{"policies":' + b"[{}," * 1000,
    ],
)  # fmt: skip
def test_what_is_no_tls_report_is_refused(document: bytes) -> None:
    with pytest.raises(ReportError):
        read_tls_report(document)


def test_counts_that_are_no_counts_do_no_harm() -> None:
    summary = {"total-successful-session-count": "12", "total-failure-session-count": -5}
    policy = {"policy": {"policy-type": "sts", "policy-domain": "acme.example"}, "summary": summary}

    (result,) = read_tls_report(tls_json(policies=[policy])).policies

    assert (result.successes, result.failures) == (12, 0)


# ---------------------------------------------------------------- how they come


@pytest.mark.parametrize(
    "attachment", [dmarc_xml(), gzip.compress(dmarc_xml()), zipped(dmarc_xml()), zipped(gzip.compress(dmarc_xml()))]
)
def test_a_report_is_found_however_it_is_packed(attachment: bytes) -> None:
    (found,) = find_aggregates(mail_with(attachment, media_type="application/octet-stream"))
    (bare,) = read_aggregate_file(attachment)

    assert isinstance(found, AggregateReport)
    assert found == bare


def test_a_tls_report_is_found_in_its_mail() -> None:
    (found,) = find_aggregates(tls_mail())

    assert isinstance(found, TlsReport)


def test_a_mail_without_report_has_none() -> None:
    assert find_aggregates(mail_with(b"GIF89a", media_type="image/gif", name="picture.gif")) == []
    assert find_aggregates(b"Subject: hello\r\n\r\nDear all,\r\n") == []
    assert find_aggregates(b"\xff" * 1000) == []


def test_a_damaged_report_is_told_with_whom_it_is_about() -> None:
    assert find_aggregates(mail_with(gzip.compress(dmarc_xml())[:-20])) == [Damaged("damaged", "acme.example")]
    named = mail_with(b"PK\x03\x04 no archive", name="report.zip")
    assert find_aggregates(named) == []


# ---------------------------------------------------------------- enemies


def _lying_zip(size: int, *, members: int = 1) -> bytes:
    """An archive that says little about what comes out of it."""
    archive = bytearray(zipped(*[b"<feedback>" + b" " * size] * members))
    real = struct.pack("<L", size + 10)
    return bytes(archive.replace(real, struct.pack("<L", 200)))


def _directory_of(members: int) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for number in range(members):
            writer.writestr(str(number), b"")
    return archive.getvalue()


BOMBS = {
    "nameless": zipped(b"<feedback/>").replace(b"report0.xml", b"\0eport0.xml"),
    "gzip": gzip.compress(b"<feedback>" + b" " * (30 * 1024 * 1024), 1),
    "gzip of gzips": gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"a" * 1000)))),
    "zip": zipped(b" " * (20 * 1024 * 1024)),
    "zip that lies": _lying_zip(20 * 1024 * 1024),
    "zip of many": zipped(*[b"<feedback/>"] * 30),
    "huge directory": _directory_of(60_000),
    "lzma": zipped(b"<feedback/>" * 10, method=zipfile.ZIP_LZMA),
    "bzip2": zipped(b"<feedback/>" * 10, method=zipfile.ZIP_BZIP2),
    "million rows": gzip.compress(dmarc_xml("".join(["<record/>"] * 1_000_000))),
    "rows": gzip.compress(dmarc_xml(*[record(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}") for n in range(14_000)])),
    "elements": gzip.compress(b"<feedback>" + b"<a/>" * 2_000_000 + b"</feedback>"),
    "attributes": gzip.compress(b"<feedback " + b" ".join(b'a%d=""' % n for n in range(500_000)) + b"/>"),
    "depth": gzip.compress(b"<feedback>" + b"<a>" * 1_000_000),
    "one name": gzip.compress(b"<feedback><" + b"a" * (7 * 1024 * 1024) + b"/></feedback>"),
    "one text": gzip.compress(dmarc_xml(report_id="x" * (7 * 1024 * 1024))),
    "one comment": gzip.compress(b"<feedback><!--" + b"x" * (7 * 1024 * 1024)),
    "entities": gzip.compress(b'<!DOCTYPE feedback [<!ENTITY a "' + b"a" * 1_000_000 + b'">]><feedback>&a;&a;</feedback>'),
    "empty objects": gzip.compress(b'{"policies":[' + b"{}," * 300_000 + b"{}]}"),
    "nested lists": gzip.compress(b'{"policies":' + b"[" * 500_000),
    "deflate noise": b"\x1f\x8b\x08\0\0\0\0\0\0\0" + zlib.compress(b"x" * 1000)[5:] * 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_no_enemy_keeps_us_busy(name: str) -> None:
    # What is beyond the size that a mail is looked at is cut off, as it is by the listener's own limit.
    mail = mail_with(BOMBS[name])
    started = time.process_time()
    find_aggregates(mail)
    took = time.process_time() - started

    assert took <= 5  # it is less than one, on a machine that does nothing else


@pytest.mark.parametrize("name", ["gzip", "elements", "one text", "empty objects", "depth"])
def test_an_enemy_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    read_aggregate_file(BOMBS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 8 * MAX_OCTETS


def test_beyond_the_most_rows_a_report_is_cut_and_says_so() -> None:
    (report,) = read_aggregate_file(BOMBS["rows"])

    assert isinstance(report, AggregateReport)
    assert (len(report.senders), report.is_cut) == (MAX_ROWS, True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gzip", "too_large"), ("zip", "too_large"), ("zip of many", "too_many_members"),
        ("huge directory", "too_many_members"), ("lzma", "unknown_method"), ("bzip2", "unknown_method"),
        ("gzip of gzips", "too_deep"), ("deflate noise", "damaged"), ("nameless", "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_honest_archive_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnpackError) as raised:
        unpack(BOMBS[name])

    assert raised.value.reason == reason


def test_a_dense_file_is_refused_before_it_is_read() -> None:
    with pytest.raises(UnpackError) as raised:
        unpack(gzip.compress(b"\0" * (7 * 1024 * 1024)))

    assert raised.value.reason == "too_dense"


def test_a_report_of_a_large_receiver_is_read_whole() -> None:
    rows = [record(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", n + 1) for n in range(9_000)]

    (found,) = find_aggregates(dmarc_mail(*rows))

    assert isinstance(found, AggregateReport)
    assert (len(found.senders), found.is_cut) == (9_000, False)
