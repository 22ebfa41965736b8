"""relay brake: pulled by hand, asked about, kept, let go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.audit import Actor
from accounts.models import Tenant
from delivery.brakes import pulling
from relayweb.commandline.main import main


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main([*words, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out.strip() else None


def test_a_brake_is_pulled_kept_and_let_go(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    acme = Tenant.objects.create(slug="acme", name="Acme")
    _, pulled = _run(capsys, "brake", "pull", "--tenant", "acme", "--step", "pause", "--reason", "a report")
    again, refused = _run(capsys, "brake", "pull", "--tenant", "acme", "--step", "hold", "--reason", "a report")
    pulling.appeal(pulling.find(pulled["id"]), "Mended.", actor=Actor("alice@acme.example"))
    _, listed = _run(capsys, "brake", "list", "--tenant", "acme")
    _, kept = _run(capsys, "brake", "refuse", pulled["id"], "--answer", "Not yet.")
    _, shown = _run(capsys, "brake", "show", pulled["id"])
    acme.refresh_from_db()
    state = acme.state
    _, released = _run(capsys, "brake", "release", pulled["id"], "--answer", "Thank you.")
    twice, _ = _run(capsys, "brake", "release", pulled["id"])
    nobody, _ = _run(capsys, "brake", "show", "nothing")
    _, level = _run(capsys, "brake", "level", "acme", "--set", "strict")

    assert (again, refused["error"], twice, nobody) == (1, "state_unchanged", 1, 1)
    assert (state, listed[0]["appeal"], kept["appeal"]) == ("suspended", True, False)
    assert shown["appeals"][0]["answer"] == "Not yet."
    assert (released["answer"], released["ended_at"] is not None) == ("Thank you.", True)
    assert level["in_force"] == "strict"
    acme.refresh_from_db()
    assert acme.state == "active"
