"""The documentation names what the code has: variables with defaults, nouns and verbs, events, alerts, figures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[3]
NAMED = re.compile(r"RELAY_[A-Z_]*[A-Z]")
FOLDERS = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox", "script")

# Set by the supervisor for the parts it starts, or by the scripts for themselves.
INTERNAL = {"RELAY_PART", "RELAY_PART_NAME", "RELAY_ALIVE_FILE", "RELAY_WORKER_SLOT", "RELAY_DATABASE_IS_EMBEDDED"}


def _sources() -> Iterator[str]:
    """The text of each program that could name a variable."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in {"", ".py"}:
                text = path.read_text(encoding="utf-8")
                if "RELAY_" in text or "env." in text or "is_given(" in text:
                    yield text


@cache
def _calls_and_words() -> list[tuple[str, ast.Call | None]]:
    """Every variable that the code names: as the argument of a reader in env (with the call), or in full."""
    return [found for text in _sources() for found in _named_in(ast.parse(text))]


def _named_in(tree: ast.Module) -> Iterator[tuple[str, ast.Call | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value.removesuffix("_FILE") if node.value.endswith("_KEYS_FILE") else node.value, None
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        reader, name = ast.unparse(node.func), node.args[0].value
        if (reader.startswith("env.") or reader.endswith("is_given")) and re.fullmatch("[A-Z_]+", str(name)):
            yield f"RELAY_{name}", node


def _rows() -> Iterator[tuple[list[str], list[str]]]:
    """Rows of the tables: the variables that the first cell names, and the other cells."""
    for line in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            first, *others = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            names: list[str] = []
            for word in re.findall(r"`([^`]+)`", first):
                # "`RELAY_GATE_ERRORS`, `…_IDLE_COMMANDS`" shortens the names of one family.
                names.append(word.replace("…", "RELAY_GATE"))
            yield names, others


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    read = {name for name, _call in _calls_and_words()} - INTERNAL
    read -= {f"{name}_FILE" for name in read}  # secrets may stand in a file

    documented = [name for names, _cells in _rows() for name in names]

    assert set(documented) == read
    assert len(documented) == len(set(documented))


def test_documented_numbers_and_flags_are_the_defaults() -> None:
    defaults = {
        name: call.args[1].value
        for name, call in _calls_and_words()
        if call is not None and len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
    }
    wrong = []
    for names, cells in _rows():
        said = [word.strip("` ") for word in cells[0].split(",")]
        for name, word in zip(names, said, strict=False):
            default = defaults.get(name)
            if isinstance(default, bool):
                is_right = (default, word) in {(True, "on"), (False, "off")} or word.startswith("on in ")
            elif isinstance(default, int | float) and word != "each stream's own":
                is_right = word.isascii() and word.replace(".", "").isdigit() and float(word) == default
            else:
                continue
            if not is_right:
                wrong.append(f"{name} is {default}, documented as {word}")

    assert len(defaults) > 60
    assert wrong == []


def test_files_for_operators_name_variables_that_are_read() -> None:
    read = {name for name, _call in _calls_and_words()}
    unknown = {}
    for path in [*(ROOT / "deploy").rglob("*"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        if path.is_file():
            names = set(NAMED.findall(path.read_text(encoding="utf-8")))
            if strange := {name for name in names if not {name, name.removesuffix("_FILE")} & read} - INTERNAL:
                unknown[path.name] = strange

    assert unknown == {}


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


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert named
    assert named - written == set()


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
