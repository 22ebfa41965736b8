"""The documentation names what the code has: variables, the command line's nouns and verbs, events, alerts, figures."""

from __future__ import annotations

import re
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[3]
READS = re.compile(
    r"""env\.(?:text|secret|integer|seconds|flag|choice|words|networks|endpoints?|link)\(\s*"([A-Z_]+)\""""
)
NAMED = re.compile(r"RELAY_[A-Z_]+")

# Set by the supervisor for the parts it starts, or by the scripts for themselves.
INTERNAL = {"RELAY_PART", "RELAY_PART_NAME", "RELAY_ALIVE_FILE", "RELAY_WORKER_SLOT"}


def _sources() -> str:
    folders = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox")
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _documented() -> set[str]:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    names = set(NAMED.findall(text))
    # "`RELAY_GATE_ERRORS`, `…_IDLE_COMMANDS`" shortens the names of one family.
    return names | {f"RELAY_GATE{suffix}" for suffix in re.findall(r"`…(_[A-Z_]+)`", text)}


def test_every_variable_is_documented() -> None:
    source = _sources()
    read = {f"RELAY_{name}" for name in READS.findall(source)}
    read |= set(re.findall(r'"(RELAY_SANDBOX_[A-Z_]+)"', source))

    assert read - INTERNAL - _documented() == set()


def test_every_documented_variable_is_read() -> None:
    source = _sources() + "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "script").iterdir() if path.is_file()
    )
    known = set(NAMED.findall(source)) | {f"RELAY_{name}" for name in READS.findall(source)}

    unknown = {name for name in _documented() if not {name, name.removesuffix("_FILE")} & known}

    assert unknown == set()


def test_every_noun_and_verb_is_documented() -> None:
    from relayweb.commandline.main import NOUNS, root

    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    context = click.Context(root)
    missing = []
    for noun in NOUNS:
        command = root.get_command(context, noun)
        verbs = list(command.commands) if isinstance(command, click.Group) else [""]
        missing += [f"{noun} {verb}".strip() for verb in verbs if f"`{noun} {verb}".rstrip() not in text]

    assert missing == []


def test_every_event_is_documented() -> None:
    from delivery.core.states import EVENT_TYPES

    text = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")

    assert {event for event in EVENT_TYPES if f"`{event}`" not in text} == set()


def test_every_alert_rule_has_a_look_words_and_documentation() -> None:
    from delivery.alerts import rules
    from relayweb.console import alert_words

    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

    assert set(rules.rules()) == set(rules.KINDS) == set(alert_words.KINDS) - {"test"}
    assert {kind for kind in rules.rules() if f"| `{kind}` |" not in text} == set()


def test_every_figure_is_documented() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    figures = set(re.findall(r'"(relayweb_[a-z_]+)"', (ROOT / "relayweb" / "metrics.py").read_text(encoding="utf-8")))

    assert len(figures) > 10
    assert {name for name in figures if f"`{name}" not in text} == set()
