from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from relayweb.commandline import output
from relayweb.commandline.report import command

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
