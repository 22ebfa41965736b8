"""The command line as a program of its own: start-up, streams, a database that is away or has to be started first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _relay(*words: str, environment: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relayweb.commandline", *words],
        capture_output=True,
        text=True,
        input=stdin,
        env=environment or dict(os.environ),
        cwd=ROOT,
        timeout=120,
        check=False,
    )


def test_stdout_holds_one_document_and_nothing_else(part_environment: dict[str, str]) -> None:
    made = _relay(
        "tenant", "create", "--name", "山田商店", "--owner-email", "alice@acme.example", "--json",
        environment=part_environment,
    )  # fmt: skip

    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["name"] == "山田商店"


def test_a_database_that_is_away_is_said_in_a_sentence(part_environment: dict[str, str]) -> None:
    away = {**part_environment, "RELAY_DATABASE_URL": "postgresql://relayweb@127.0.0.1:9/relayweb"}

    said = _relay("tenant", "list", "--json", environment=away)

    assert said.returncode == 1
    assert json.loads(said.stdout)["error"] == "database_unavailable"
    assert "Traceback" not in said.stderr


def test_a_value_that_cannot_be_read_stops_the_command_with_a_sentence(part_environment: dict[str, str]) -> None:
    said = _relay("tenant", "list", environment={**part_environment, "RELAY_MAX_RECIPIENTS": "many"})

    assert said.returncode == 1
    assert "RELAY_MAX_RECIPIENTS" in said.stderr
    assert "Traceback" not in said.stderr


def test_the_doctor_names_what_is_wrong(part_environment: dict[str, str]) -> None:
    said = _relay("doctor", "--json", environment=part_environment)

    assert said.returncode == 1
    found = {check["name"]: check for check in json.loads(said.stdout)["checks"]}
    assert found["database"]["ok"]
    assert not found["sources"]["ok"]
    assert "relay source add" in found["sources"]["sentence"]


def test_help_and_classify_do_not_load_django(part_environment: dict[str, str]) -> None:
    script = (
        "import sys; from relayweb.commandline.main import main; main(sys.argv[1:]); sys.exit('django' in sys.modules)"
    )

    for words in (["--help"], ["reply", "classify", "550 5.1.1 no such user"]):
        ran = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, env=part_environment, cwd=ROOT, check=False
        )
        assert ran.returncode == 0, ran.stderr


def test_a_reader_that_stops_early_is_no_error(part_environment: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)

    ran = subprocess.run(
        [sys.executable, "-m", "relayweb.commandline", "tenant", "list"],
        stdout=write,
        stderr=subprocess.PIPE,
        env=part_environment,
        cwd=ROOT,
        check=False,
    )
    os.close(write)

    assert b"Traceback" not in ran.stderr
    assert b"Exception" not in ran.stderr


@pytest.mark.timeout(180)
def test_without_a_server_the_embedded_database_is_started_for_the_command(var: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "DJANGO_"))}
    environment |= {
        name: os.environ[name] for name in ("RELAY_POSTGRES_BIN", "RELAY_POSTGRES_USER") if name in os.environ
    }
    environment |= {"RELAY_VAR": str(var), "PYTHONPATH": str(ROOT)}

    made = _relay(
        "tenant", "create", "--name", "Acme", "--owner-email", "alice@acme.example", "--json", environment=environment
    )
    listed = _relay("tenant", "list", "--json", environment=environment)

    assert made.returncode == 0, made.stderr
    assert listed.returncode == 0, listed.stderr
    assert {tenant["slug"] for tenant in json.loads(listed.stdout)} == {"system", "acme"}
    assert not (var / "postgres" / "data" / "postmaster.pid").exists()
