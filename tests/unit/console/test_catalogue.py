"""What a reviewer of Japanese would mark (pages.md, language)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[3]
JAPANESE = "぀-ヿ一-鿿"


def _texts() -> list[tuple[str, str]]:
    with (ROOT / "locale/ja/LC_MESSAGES/django.po").open("rb") as file:
        catalogue = read_po(file, locale="ja")
    found = []
    for message in catalogue:
        if message.id:
            string = message.string
            found.append((str(message.id), string if isinstance(string, str) else " ".join(string)))
    return found


def test_nothing_is_missing_or_fuzzy() -> None:
    with (ROOT / "locale/ja/LC_MESSAGES/django.po").open("rb") as file:
        catalogue = read_po(file, locale="ja")

    assert [message.id for message in catalogue if message.id and (not message.string or message.fuzzy)] == []


@pytest.mark.parametrize(
    "forbidden",
    [
        pytest.param("到達|配信成功", id="nobody can see an arrival"),
        pytest.param(rf"(?<=[{JAPANESE}])[(?!:]|[)?!:](?=[{JAPANESE}])", id="full-width marks beside Japanese"),
        pytest.param("[｡-ﾟ]", id="no half-width kana"),
        pytest.param("！", id="no exclamation marks"),
        pytest.param(r"(である|だった|ではない)。", id="sentences end in desu and masu"),
        pytest.param("サーバ(?!ー)|ユーザ(?!ー)|フォルダ(?!ー)", id="long vowels are written"),
    ],
)
def test_japanese_is_written_as_agreed(forbidden: str) -> None:
    assert [(original, text) for original, text in _texts() if re.search(forbidden, text)] == []


def test_templates_hold_no_text_of_their_own() -> None:
    """Words between tags must come through gettext; names, units and signs may stand as they are."""
    allowed = {"HTML", "UTC", "Message-ID", "ENVID", "TLS", "ms", ".eml", "fsync", "relayweb", "synchronous_commit"}
    allowed |= {"full_page_writes", "DKIM", "SPF", "DMARC", "TLS-RPT", "CSV", "JSON"}
    hard_coded = []
    for path in sorted((ROOT / "templates").rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"{% blocktranslate.*?{% endblocktranslate %}", "", text, flags=re.DOTALL)
        text = re.sub(r"<code>.*?</code>", " ", text, flags=re.DOTALL)  # what a machine reads
        text = re.sub(r"<style>.*?</style>|<!--.*?-->|{%.*?%}|{{.*?}}|{#.*?#}", " ", text, flags=re.DOTALL)
        text = re.sub(r"<[^>]*>", " ", text, flags=re.DOTALL)
        found = list(re.findall(r"[A-Za-z_.-]*[A-Za-z]{2,}[A-Za-z_.-]*|[぀-ヿ一-鿿]+", text))
        hard_coded += [(path.name, word) for word in found if word.strip("-") not in allowed]

    assert hard_coded == []


def test_templates_hold_nothing_that_the_policy_forbids() -> None:
    forbidden = re.compile(r"\sstyle=|\son[a-z]+=|hx-on|js:|hx-trigger=\"[^\"]*\[|<script(?! src)|javascript:")
    pages = [path for path in (ROOT / "templates").rglob("*.html") if path.name != "html_part.html"]

    assert [path.name for path in pages if forbidden.search(path.read_text(encoding="utf-8"))] == []
