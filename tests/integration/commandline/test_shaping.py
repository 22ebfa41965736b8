"""relay shaping: limits are shown, changed and taken back, and the change is on record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.models import AuditEntry
from relayweb.commandline.main import main


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main([*words, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out.strip() else None


def test_a_limit_is_overridden_shown_and_taken_back(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    _, default = _run(capsys, "shaping", "show", "--provider", "docomo")
    code, changed = _run(
        capsys, "shaping", "set", "--provider", "docomo", "connections=1", "messages=1/s,100/h", "daily=500"
    )
    _, shown = _run(capsys, "shaping", "show", "--provider", "docomo")
    _run(capsys, "shaping", "set", "--provider", "docomo", "connections=", "messages=", "daily=")
    _, after = _run(capsys, "shaping", "show", "--provider", "docomo")

    assert code == 0
    assert (changed["connections"], changed["messages"], changed["daily"]) == (1, ["1/s", "100/h"], 500)
    assert shown["overridden"] == ["connections", "daily", "messages"]
    assert after["limits"] == default["limits"]
    assert AuditEntry.objects.filter(action="shaping.set", object_name="docomo").count() == 2


@pytest.mark.parametrize(
    "change", ["connections=0", "connections=many", "messages=fast", "colour=red", "tls=perhaps", "daily=-1"]
)
def test_what_makes_no_limit_is_refused_and_changes_nothing(
    db: None, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    code, answer = _run(capsys, "shaping", "set", "--provider", "docomo", change)
    _, shown = _run(capsys, "shaping", "show", "--provider", "docomo")

    assert code == 1
    assert answer["error"]
    assert shown["overridden"] == []


def test_a_group_nobody_knows_is_not_found(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = _run(capsys, "shaping", "release", "--provider", "nobody")

    assert code == 1
    assert "nobody" in answer["sentence"]
