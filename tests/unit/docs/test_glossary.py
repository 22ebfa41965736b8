"""Each word that programs and people meet stands in the glossary, and in the API's document where the API says it."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from delivery.core.classification import Action, ReplyClass, Scope
from delivery.core.reply import Origin, Phase
from delivery.core.states import EventKind, RecipientState, TenantEventKind

ROOT = Path(__file__).resolve().parents[3]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
SAID_BY_THE_API = (RecipientState, EventKind, TenantEventKind, ReplyClass, Action, Scope, Phase)


@pytest.mark.parametrize("members", [*SAID_BY_THE_API, Origin], ids=lambda members: members.__name__)
def test_every_member_is_in_the_glossary(members: type[StrEnum]) -> None:
    section = next(part for part in GLOSSARY.split("\n## ")[1:] if f"`{members.__name__}`" in part.split("| Word |")[0])

    words = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))

    assert {str(member.value) for member in members} - words == set()


def test_every_word_that_the_api_says_is_in_its_document() -> None:
    document = json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str)  # type: ignore[no-untyped-call]

    missing = [member for members in SAID_BY_THE_API for member in members if f'"{member.value}"' not in document]

    assert missing == []


def test_the_names_it_gives_are_in_the_code() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("accounts", "delivery", "smtpgate")
        for path in (ROOT / folder).rglob("*.py")
    )
    terms = GLOSSARY.split("\n## ")[0]

    named = {
        name.rpartition(".")[2]
        for row in re.findall(r"^\|[^|]+\|([^|]+)\|", terms, re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", row)
    }

    assert named
    assert {name for name in named if not re.search(rf"\b{name}\b", code)} == set()
