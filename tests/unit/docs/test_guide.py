"""The customers' guide says the same in both languages, and speaks with the console's own words."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(path.name for path in (GUIDE / "en").glob("*.md"))

SHOWN = re.compile(r"\*\*(.+?)\*\*")
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
ROW = re.compile(r"^\|", re.MULTILINE)
NUMBER = re.compile(r"\d[\d,.]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _page(language: str, name: str) -> str:
    return (GUIDE / language / name).read_text(encoding="utf-8")


@cache
def _console_words() -> dict[str, set[str]]:
    with (ROOT / "locale" / "ja" / "LC_MESSAGES" / "django.po").open("rb") as file:
        entries = [entry for entry in read_po(file) if entry.id]
    english = {text for entry in entries for text in ([entry.id] if isinstance(entry.id, str) else entry.id)}
    japanese = {text for entry in entries for text in ([entry.string] if isinstance(entry.id, str) else entry.string)}
    return {"en": english, "ja": japanese}


def test_both_languages_have_the_same_pages() -> None:
    assert PAGES
    assert sorted(path.name for path in (GUIDE / "ja").glob("*.md")) == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_say_the_same_things_in_the_same_order(name: str) -> None:
    english, japanese = _page("en", name), _page("ja", name)

    assert HEADING.findall(english) == HEADING.findall(japanese)
    assert len(ROW.findall(english)) == len(ROW.findall(japanese))


@pytest.mark.parametrize("language", ["en", "ja"])
def test_bold_words_are_words_of_the_console(language: str) -> None:
    unknown = {
        (name, text)
        for name in PAGES
        for text in SHOWN.findall(_page(language, name))
        if text not in _console_words()[language]
    }

    assert unknown == set()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_state_and_every_reason_is_explained(language: str) -> None:
    from django.utils import translation

    from relayweb.console import class_words, words

    with translation.override(language):
        labels = {str(mark.label) for mark in words.STATES.values()}
        labels |= {str(one.label) for one in class_words.CLASSES.values()}

    assert labels - set(SHOWN.findall(_page(language, "reading-a-bounce.md"))) == set()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_brakes_and_limits_tell_the_numbers_in_force(language: str) -> None:
    from django.utils import translation

    from accounts.trust import STEPS
    from relayweb.console.brakes import RULES

    with (ROOT / "delivery" / "brakes" / "levels.toml").open("rb") as file:
        rules = tomllib.load(file)["rule"]
    with translation.override(language):
        expected = [("brakes.md", str(RULES[rule["name"]]), _thresholds(rule)) for rule in rules]
    expected += [("limits.md", f"{step.daily:,}", [f"{step.days}", f"{step.sent:,}"]) for step in STEPS]

    for page, label, numbers in expected:
        (row,) = [line for line in _page(language, page).splitlines() if _first_cell(line) == label]
        assert set(numbers) - set(NUMBER.findall(row)) == set()


def _first_cell(line: str) -> str:
    return line.split("|")[1].strip(" *件") if line.startswith("|") else ""


def _thresholds(rule: dict[str, Any]) -> list[str]:
    """As they are written: ``20`` for 20 %; of a sudden volume, the number of mails in an hour."""
    return [f"{rule['fewest']:,}"] if rule["of"] == "volume" else [f"{one['at'] * 100:g}" for one in rule["steps"]]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_links_lead_somewhere(language: str) -> None:
    dead = {
        (name, target)
        for name in PAGES
        for target in LINK.findall(_page(language, name))
        if "://" not in target and not (GUIDE / language / target.partition("#")[0]).exists()
    }

    assert dead == set()
