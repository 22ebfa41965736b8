"""What the documents name exists: links and their anchors, commands with their options, alerts, figures, audit entries."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import yaml

from relayweb.commandline.main import root
from relayweb.console.deeds import DEEDS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "deploy", ROOT / "bench")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)
ALERTS = tomllib.loads((ROOT / "delivery/alerts/rules.toml").read_text(encoding="utf-8"))
_PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/relayweb.rules.yml").read_text(encoding="utf-8"))
PROMETHEUS = {rule["alert"]: rule["annotations"]["runbook"] for rule in _PROMETHEUS["groups"][0]["rules"]}

_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _prose(path: Path) -> str:
    return _FENCE.sub("", _text(path))


# ---------------------------------------------------------------- links


@cache
def _anchors(path: Path) -> set[str]:
    """As code hosts make them: lower case, no punctuation, hyphens for spaces, numbered when repeated."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?) *$", _prose(path), flags=re.MULTILINE):
        plain = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def _broken(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _hash, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield target
        elif anchor and anchor not in _anchors(there):
            yield f"{target} (no such heading)"


def test_links_lead_to_files_and_headings_that_exist() -> None:
    broken = {str(path): found for path in DOCUMENTS if (found := list(_broken(path)))}

    assert broken == {}


# ---------------------------------------------------------------- commands


def _said_commands(path: Path) -> Iterator[str]:
    """Lines of consoles and spans of code that call the command line; in its own document also without its name."""
    text = _text(path)
    for block in _FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if called := re.search(
                r"(?:^|[|$] *|xargs [^|]*)(?:script/)?relay ((?!web)[a-z-]+ .*|[a-z]+)$", line.strip()
            ):
                yield called[1]
    for span in _SPAN.findall(_FENCE.sub("", text).replace("\n", " ") if "command-line" not in path.name else text):
        if called := re.match(r"(?:script/)?relay ([a-z].*)", span):
            yield called[1]
        elif path.name == "command-line.md" and span.split(" ")[0] in root.list_commands(click.Context(root)):
            yield span


def _unknown(said: str) -> Iterator[str]:
    """What of a command the parser does not have. Placeholders and optional parts are written as usual in manuals."""
    said = re.sub(r"\s#.*|[|&;] .*$", "", said.replace("\\|", "|"))
    words = [word for word in re.split(r"[\s\[\]]+", re.sub(r"\"[^\"]*\"|…", " ", said)) if word]
    command: click.Command = root
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        context, names = click.Context(command), words.pop(0).split("|")
        if strange := [name for name in names if command.get_command(context, name) is None]:
            if not (names[0].isupper() and command is not root):
                yield f"{said}: {strange}"
            return
        command = command.get_command(context, names[0]) or command
    if isinstance(command, click.Group):
        return
    known = {"--json", "--help", *(option for parameter in command.params for option in parameter.opts)}
    for word in words:
        for option in re.findall(r"^--[a-z-]+", word):
            if option not in known:
                yield f"{said}: {option}"


def test_commands_exist_with_their_options() -> None:
    said = {str(path.relative_to(ROOT)): list(_said_commands(path)) for path in DOCUMENTS}
    unknown = {
        name: found for name, calls in said.items() if (found := [one for call in calls for one in _unknown(call)])
    }

    assert unknown == {}
    assert len(said["docs/runbooks.md"]) > 60
    assert list(_unknown("queue vanish --all")) and list(_unknown("queue hold --nobody"))


# ---------------------------------------------------------------- alerts, figures, audit


def test_every_alert_has_a_runbook_that_exists() -> None:
    headings = _anchors(ROOT / "docs/runbooks.md")
    named = {kind: rule["runbook"] for kind, rule in ALERTS.items()}
    named |= {name: where.removeprefix("docs/runbooks.md#") for name, where in PROMETHEUS.items()}
    table = _text(ROOT / "docs/runbooks.md")

    assert {name for name, heading in named.items() if heading not in headings} == set()
    assert {name for name in named if f"`{name}`" not in table} == set()


def test_alerts_and_figures_that_are_named_exist() -> None:
    figures = set(re.findall(r'"(relayweb_[a-z_]+)"', _text(ROOT / "relayweb/metrics.py")))
    watched = set(
        re.findall(r"^\| `(?!relayweb_)([a-z_]+)` \|", _text(ROOT / "docs/monitoring.md"), flags=re.MULTILINE)
    )
    unknown = set()
    for path in DOCUMENTS:
        unknown |= set(re.findall(r"\bRelayweb[A-Z]\w+", _text(path))) - set(PROMETHEUS)
        unknown |= set(re.findall(r"`(relayweb_[a-z_]+)", _text(path))) - figures

    assert unknown == set()
    assert watched == set(ALERTS)


def test_audit_entries_that_are_named_exist() -> None:
    """Where a sentence says that something is written into the audit log."""
    unknown: dict[str, Any] = {}
    for path in DOCUMENTS:
        for sentence in re.split(r"(?<=[.:|])\s", _prose(path)):
            if "audit" in sentence:
                said = {span for span in _SPAN.findall(sentence) if re.fullmatch(r"[a-z_]+\.[a-z_]+", span)}
                if strange := {one for one in said if one not in DEEDS and not one.endswith((".md", ".py", ".toml"))}:
                    unknown[str(path)] = strange

    assert unknown == {}
