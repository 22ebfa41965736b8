"""Octets that nobody would send in good faith, for everything that reads what strangers wrote.

    python bench/fuzz.py [--seconds 60] [--only NAME …] [--seed N] [--keep FOLDER]

Each reader gets mutated samples for so long. A finding is an error that the reader does not document, or a reading that
took longer than a second for at most 64 KiB; its octets are kept in the folder. With `atheris` installed the readers are
instrumented and mutation follows coverage; else it is blind. One line of JSON for each reader, exit 1 after a finding.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

LONGEST_OCTETS = 65_536
SLOW_S = 1.0

# What mutations splice in: what ends, begins and bends structures in the formats below.
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b"\r\n.\r\n", b"\r\n ", b":", b";", b"<", b">", b"@", b'"', b"\\", b"(", b")",
    b"=?utf-8?B?", b"?=", b"=?x?Q?", b"=\r\n", b"--b", b"--b--", b"Content-Type: ", b"multipart/mixed; boundary=b\r\n",
    b"message/rfc822\r\n\r\n", b"multipart/report; report-type=delivery-status; boundary=b\r\n", b"message/delivery-status",
    b"message/feedback-report", b"text/html", b"Content-Transfer-Encoding: base64\r\n", b"quoted-printable", b"charset=utf-7",
    b"charset=\xff", b"filename*0*=", b"<!DOCTYPE x [", b"<!ENTITY a '&b;&b;'>", b"]>", b"&a;", b"<record>", b"</record>",
    b"<![CDATA[", b"<?xml encoding='utf-7'?>", b"\x1f\x8b\x08", b"PK\x03\x04", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"9" * 400, b"-1", b"1e999", b"0x", b"null", b"[" * 64, b"{" * 64, b'{"a":', b"\\ud800", b"%00", b"*",
    b"550 5.1.1 ", b"Final-Recipient: rfc822; ", b"Received: ", b"From: ", b"=", b"+41", b" SIZE=", b" ORCPT=rfc822;", b"xn--",
    b"\xe2\x80\xa8", b"\xc2\x85", b",", b"'", b"$(", b"{{x}}", b"9999-12-31T23:59:59-14:00", b"0001-01-01T00:00+14:00",
)  # fmt: skip

MAIL = (
    b"From: =?utf-8?Q?A?= <a@b.example>\r\nTo: c@d.example\r\nSubject: x\r\nDate: Tue, 1 Jul 2025 00:00:00 +0000\r\n"
    b"Message-ID: <1@b.example>\r\nMIME-Version: 1.0\r\n"
)
DSN = (
    MAIL
    + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nIt failed.\r\n--b\r\n"
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; c@d.example\r\n"
    b"Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nFrom: a@b.example\r\nSubject: y\r\n\r\nz\r\n--b--\r\n"
)
ARF = (
    MAIL
    + b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nComplaint\r\n--b\r\n"
    b"Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\n"
    b"Original-Rcpt-To: <c@d.example>\r\nArrival-Date: Tue, 1 Jul 2025 00:00:00 +0000\r\n\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nFrom: a@b.example\r\nList-Unsubscribe: <https://x/u/t>\r\n\r\nz\r\n--b--\r\n"
)
DMARC = (
    b'<?xml version="1.0"?><feedback><report_metadata><org_name>x</org_name><email>a@x</email><report_id>1</report_id>'
    b"<date_range><begin>1751328000</begin><end>1751414400</end></date_range></report_metadata><policy_published>"
    b"<domain>b.example</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>2</count>"
    b"<policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>"
    b"<identifiers><header_from>b.example</header_from></identifiers><auth_results><dkim><domain>b.example</domain>"
    b"<result>pass</result></dkim></auth_results></record></feedback>"
)
TLS = json.dumps(
    {
        "organization-name": "x",
        "date-range": {"start-datetime": "2025-07-01T00:00:00Z", "end-datetime": "2025-07-02T00:00:00Z"},
        "contact-info": "a@x", "report-id": "1", "policies": [{"policy": {"policy-type": "sts", "policy-domain": "b.example"},
        "summary": {"total-successful-session-count": 1, "total-failure-session-count": 2}, "failure-details": [
        {"result-type": "certificate-expired", "failed-session-count": 2, "sending-mta-ip": "192.0.2.1"}]}],
    }
).encode()  # fmt: skip


@dataclass(frozen=True)
class Reader:
    read: Callable[[bytes], Any]
    allowed: tuple[type[BaseException], ...]
    samples: Sequence[bytes]


def readers() -> dict[str, Reader]:
    """Every function of ours that a stranger's octets reach first, with the errors it documents."""
    import django

    django.setup()
    from accounts.refusals import Refused
    from delivery import suppression_files, suppressions
    from delivery.acceptance import controls
    from delivery.core import (
        aggregates,
        ascii_header,
        content,
        downgrade,
        dsn,
        envelope,
        json_notices,
        mailbox,
        mime,
        reply,
        trace,
        unpacking,
        unsubscribing,
        verp,
        webhooks,
    )
    from delivery.core.replies import Rejection
    from delivery.core.reply import Phase
    from delivery.reports import reading
    from delivery.suppression_imports import read_text
    from delivery.transport import mta_sts, signing

    def header_section(octets: bytes) -> None:
        section = content.read_header_section(octets)
        content.check_lines(octets)
        content.check_singletons(section)
        content.author_of(section)
        trace.count_received(section)
        controls.taken_from(section, digest=lambda: b"", now=datetime(2025, 7, 1, tzinfo=UTC))
        for field in section.fields:
            content.display_text(field.value)

    def csv_file(octets: bytes) -> None:
        for _line, target, *_rest in suppression_files.read_csv(read_text(octets).splitlines(keepends=True)):
            suppressions.read_target(target)

    def tokens(octets: bytes) -> None:
        text = octets.decode("latin-1")
        assert unsubscribing.read_token(text, keys=[b"k" * 32]) is None
        assert verp.read_feedback_token(text, keys=[b"k" * 32]) is None

    def packed(octets: bytes) -> None:
        unpacking.unpack(octets)
        aggregates.read_aggregate_file(octets)

    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.xml", DMARC)
    smtp = [
        b"FROM:<a@b.example> SIZE=100 BODY=8BITMIME",
        b"TO:<c@d.example> NOTIFY=FAILURE ORCPT=rfc822;c+40d",
        b"FROM:<>",
    ]
    bad_syntax = (envelope.EnvelopeSyntaxError,)
    return {
        "mail": Reader(envelope.parse_mail, bad_syntax, smtp),
        "rcpt": Reader(lambda octets: envelope.parse_rcpt(octets, smtputf8=True), bad_syntax, smtp),
        "mailbox": Reader(
            lambda octets: mailbox.parse_mailbox(octets.decode("utf-8", "replace")), (mailbox.MailboxSyntaxError,),
            [b"a@b.example", b'"a b"@b.example', "日本@例え.テスト".encode()],
        ),
        "reply": Reader(
            lambda octets: reply.from_lines(Phase.RCPT, octets.split(b"\n")), (),
            [b"550-5.1.1 no\n550 5.1.1 such user", b"421 try again in 5 minutes"],
        ),
        "header_section": Reader(header_section, (content.ContentError, Rejection), [MAIL + b"\r\nx", DSN]),
        "mime": Reader(lambda octets: [part.octets() for part in mime.read_mail(octets).walk()], (), [DSN, ARF]),
        "downgrade": Reader(downgrade.to_7bit, (ascii_header.NotConvertible,), [DSN, MAIL + "\r\nあ".encode()]),
        "returned": Reader(reading.read_returned, (), [DSN, ARF]),
        "delivery_status": Reader(lambda octets: dsn.read_delivery_status(octets.decode("latin-1")), (), [DSN[-400:]]),
        "json_notice": Reader(
            lambda octets: json_notices.read_json_notice(octets.decode("latin-1")), (), [b'{"notificationType":"Bounce"}', TLS]
        ),
        "aggregates": Reader(aggregates.find_aggregates, (), [MAIL + b"Content-Type: text/xml\r\n\r\n" + DMARC]),
        "packed": Reader(packed, (unpacking.UnpackError,), [gzip.compress(DMARC), zipped.getvalue(), DMARC, TLS]),
        "mta_sts": Reader(
            mta_sts.parse_policy, (mta_sts.PolicyUnavailable,), [b"version: STSv1\nmode: enforce\nmx: *.x.example\nmax_age: 9"]
        ),
        "webhook_url": Reader(
            lambda octets: webhooks.read_url(octets.decode("latin-1")), (webhooks.UrlUnusable,), [b"https://u@x.example:443/a?b"]
        ),
        "csv": Reader(
            csv_file, (Refused,), [b"address,expires_at,detail\r\na@b.example,2026-01-01,x\r\n@b.example,,", b"a@b.example"]
        ),
        "tokens": Reader(tokens, (), [b"abcdefghijklmnopqrstuvwxyz234567" * 2]),
        "relaxed_body": Reader(signing.relaxed_body, (), [b"a \r\n\r\nb\t\r\n\r\n"]),
    }  # fmt: skip


def mutations(samples: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    while True:
        octets = bytearray(chance.choice(samples))
        for _ in range(chance.choice((1, 1, 2, 4, 8, 32))):
            place = chance.randrange(len(octets) + 1)
            match chance.randrange(7):
                case 0:
                    octets[place:place] = chance.choice(TOKENS)
                case 1:
                    del octets[place : place + chance.choice((1, 2, 10, 100))]
                case 2:
                    octets[place : place + 1] = bytes((chance.randrange(256),))
                case 3:
                    end = place + chance.randrange(64)
                    octets[place:place] = octets[place:end] * chance.choice((1, 2, 50))
                case 4:
                    octets[place:place] = chance.choice(TOKENS) * chance.choice((2, 10, 1000))
                case 5:
                    other = chance.choice(samples)
                    octets[place:] = other[chance.randrange(len(other) + 1) :]
                case _:
                    octets[place:place] = chance.randbytes(chance.randrange(16))
        yield bytes(octets[:LONGEST_OCTETS])


class Finding(Exception):
    pass


def attempt(reader: Reader, octets: bytes) -> float:
    """Seconds it took. Raises Finding."""
    began = time.thread_time()
    try:
        reader.read(octets)
    except reader.allowed:
        pass
    except Exception as error:
        raise Finding("".join(traceback.format_exception(error)[-3:])) from error
    took = time.thread_time() - began
    if took > SLOW_S:
        raise Finding(f"took {took:.1f} s")
    return took


def hunt(name: str, *, seconds: float, seed: int, keep: Path) -> bool:
    """Blind mutation. True where something was found."""
    reader, chance = readers()[name], random.Random(f"{seed}{name}")
    until, tried, slowest, found = time.monotonic() + seconds, 0, 0.0, ""
    for octets in mutations(reader.samples, chance):
        try:
            slowest = max(slowest, attempt(reader, octets))
        except Finding as finding:
            found = str(finding)
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{hashlib.sha256(octets).hexdigest()[:12]}").write_bytes(octets)
        tried += 1
        if found or time.monotonic() > until:
            break
    print(
        json.dumps({"reader": name, "tried": tried, "slowest_ms": round(1000 * slowest, 1), "found": found}), flush=True
    )
    return bool(found)


def hunt_by_coverage(name: str, *, seconds: float, seed: int, keep: Path) -> None:
    """atheris, which ends the process itself."""
    import atheris

    corpus = keep / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["delivery", "accounts"]):
        reader = readers()[name]
    for number, sample in enumerate(reader.samples):
        (corpus / f"sample-{number}").write_bytes(sample)
    words = corpus.parent / f"{name}.dict"
    words.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in token[:60]) + '"\n' for token in TOKENS))
    options = [f"-max_total_time={int(seconds)}", f"-seed={seed or 1}", f"-max_len={LONGEST_OCTETS}", f"-dict={words}"]
    options += [
        f"-artifact_prefix={keep}/{name}-",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], lambda octets: attempt(reader, octets) and None)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for each reader")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relayweb.settings")
    for variable, value in {
        "PROFILE": "development", "PART": "worker", "SECRET_KEY": "-" * 50, "HOSTNAME": "relay.test",
        "DATABASE_URL": "postgresql://nobody@/nothing",
    }.items():  # fmt: skip
        os.environ.setdefault(f"RELAY_{variable}", value)
    if asked.one:
        hunt_by_coverage(asked.one, seconds=asked.seconds, seed=asked.seed, keep=asked.keep)
        return 0
    names = asked.only or list(readers())
    if asked.blind or not _has_atheris():
        found = [hunt(name, seconds=asked.seconds, seed=asked.seed, keep=asked.keep) for name in names]
    else:
        found = [_in_a_process(name, asked) for name in names]
    return int(any(found))


def _has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def _in_a_process(name: str, asked: argparse.Namespace) -> bool:
    command = [sys.executable, __file__, "--one", name, "--seconds", str(asked.seconds), "--seed", str(asked.seed)]
    try:
        done = subprocess.run(
            [*command, "--keep", str(asked.keep)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=asked.seconds + 120,
        )
    except subprocess.TimeoutExpired:
        print(json.dumps({"reader": name, "tried": 0, "found": "it did not end"}), flush=True)
        return True
    said = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in done.stderr.splitlines()
        if line.startswith("stat::") and ":" in line
    )
    tried = int(said.get("number_of_executed_units", "0").strip() or 0)
    found = "" if done.returncode == 0 else done.stderr[-3000:]
    print(json.dumps({"reader": name, "tried": tried, "found": found}), flush=True)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
