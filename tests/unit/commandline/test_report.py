from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relayweb.commandline import output
from relayweb.commandline.report import command
from tests.support.aggregates import dmarc_mail, dmarc_xml, record, tls_mail, zipped

BOUNCE = (
    b"From: MAILER-DAEMON@mx.example\nSubject: Undelivered Mail\n\n"
    b"<bob@b.example>: host mx.b.example said: 550 5.1.1 User unknown (in reply to RCPT TO command)\n"
)


def test_reports_are_printed_as_one_document_by_file(tmp_path: Path) -> None:
    file = tmp_path / "bounce.eml"
    file.write_bytes(BOUNCE)

    with output.mode(as_json=True):
        result = CliRunner().invoke(command, ["parse", str(file)])

    assert json.loads(result.stdout) == {
        str(file): [
            {
                "recipient": "bob@b.example", "kind": "bounce", "class": "bad_mailbox", "hard": True, "status": "5.1.1",
                "reply_code": "550", "feedback_type": "",
            }
        ]
    }  # fmt: skip


def test_people_get_a_table(tmp_path: Path) -> None:
    file = tmp_path / "bounce.eml"
    file.write_bytes(BOUNCE)

    result = CliRunner().invoke(command, ["parse", str(file)])

    assert "bob@b.example" in result.output and "bad_mailbox" in result.output


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(command, ["parse", str(tmp_path / "none.eml")]).exit_code == 2


@pytest.mark.parametrize(
    "content", [dmarc_mail(record(count=7)), zipped(dmarc_xml(record(count=7)))], ids=["mail", "file"]
)
def test_a_dmarc_report_is_printed_with_its_senders(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "report"
    file.write_bytes(content)

    with output.mode(as_json=True):
        (row,) = json.loads(CliRunner().invoke(command, ["parse", str(file)]).stdout)[str(file)]
    told = CliRunner().invoke(command, ["parse", str(file)]).output

    assert (row["kind"], row["recipient"], row["hard"]) == ("other", "", False)
    assert (row["dmarc"]["domain"], row["dmarc"]["count"], row["dmarc"]["passed"]) == ("acme.example", 7, 7)
    assert row["dmarc"]["senders"][0]["source"] == "192.0.2.10"
    assert "192.0.2.10" in told and "receiver.example" in told


def test_a_tls_report_and_a_damaged_one_are_printed(tmp_path: Path) -> None:
    good, bad = tmp_path / "tls.eml", tmp_path / "bad.zip"
    good.write_bytes(tls_mail())
    bad.write_bytes(b"PK\x03\x04 no archive")

    with output.mode(as_json=True):
        found = json.loads(CliRunner().invoke(command, ["parse", str(good), str(bad)]).stdout)

    assert found[str(good)][0]["tls"]["policies"][0]["failures"] == 303
    assert found[str(bad)][0]["damaged"]["reason"] == "damaged"
