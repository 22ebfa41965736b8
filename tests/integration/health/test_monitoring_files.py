"""The dashboard and the alert rules that are shipped ask for figures that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relayweb.metrics import exposition

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
NAME = re.compile(r"\brelayweb_[a-z_]+\b")


def _dashboard() -> list[str]:
    document = json.loads((DEPLOY / "grafana/relayweb.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    queries = [variable["query"]["query"] for variable in document["templating"]["list"] if variable["type"] == "query"]
    return queries + [target["expr"] for panel in document["panels"] for target in panel["targets"]]


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus/relayweb.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.django_db
def test_every_figure_they_ask_for_exists() -> None:
    known = set(re.findall(r"^# TYPE (\S+)", exposition().decode(), flags=re.MULTILINE))

    asked = {name for text in [*_dashboard(), *(rule["expr"] for rule in _rules())] for name in NAME.findall(text)}

    assert asked - known == set()
    assert len(asked) >= 10


def test_every_rule_says_what_it_is_about_and_how_bad_it_is() -> None:
    rules = _rules()

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule), rule
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "runbook"} == set(rule["annotations"])
        assert rule["expr"].count("(") == rule["expr"].count(")")
