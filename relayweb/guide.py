"""The customers' guide as pages: docs/guide in the reader's language. Public; reads no database.

The texts are ours and rendered without raw HTML. Links between pages lead to the pages here; what they say about files that
are not served keeps its words and loses its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.views.decorators.http import require_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

FOLDER: Path = settings.SHIPPED / "docs" / "guide"
CONTENTS = "README"
FALLBACK = "en"


@dataclass(frozen=True, slots=True)
class GuidePage:
    title: str
    html: SafeString


@require_safe
def page(request: HttpRequest, name: str = CONTENTS) -> HttpResponse:
    guide_page = _read(get_language() or FALLBACK, name)
    if guide_page is None:
        raise Http404
    return render(request, "guide.html", {"page": guide_page, "is_contents": name == CONTENTS})


@cache
def pages(language: str) -> frozenset[str]:
    """The names that can be asked for; nothing else is ever looked for on disk."""
    return frozenset(path.stem for path in (FOLDER / language).glob("*.md"))


def _read(language: str, name: str) -> GuidePage | None:
    language = language if pages(language) else FALLBACK
    return _rendered(language, name) if name in pages(language) else None


@cache
def _rendered(language: str, name: str) -> GuidePage:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse((FOLDER / language / f"{name}.md").read_text(encoding="utf-8"))
    title = next(tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open")
    shown = _without_empty_heads(_without_other_languages(tokens))
    for token in shown:
        if token.type == "inline" and token.children:
            token.children = _with_served_links(token.children, language)
    html = markdown.renderer.render(shown, markdown.options, {})
    html = html.replace("<table>", '<div class="rw-wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    return GuidePage(title, mark_safe(html))  # noqa: S308 - our own text, without raw HTML


def _without_other_languages(tokens: Sequence[Token]) -> list[Token]:
    """Files link to the same in the other language; a page has its buttons for that."""
    elsewhere = {
        place
        for place, token in enumerate(tokens)
        if any(str(child.attrs.get("href", "")).startswith(("../en/", "../ja/")) for child in token.children or ())
    }
    return [token for place, token in enumerate(tokens) if not {place - 1, place, place + 1} & elsewhere]


def _without_empty_heads(tokens: Sequence[Token]) -> list[Token]:
    """Markdown knows no table without a head; ours stays empty then, and an empty head says nothing to anybody."""
    kept: list[Token] = []
    head_at: int | None = None
    for token in tokens:
        if token.type == "thead_open":
            head_at = len(kept)
        kept.append(token)
        if token.type == "thead_close" and head_at is not None:
            if not any(one.content for one in kept[head_at:] if one.type == "inline"):
                del kept[head_at:]
            head_at = None
    return kept


def _with_served_links(children: Sequence[Token], language: str) -> list[Token]:
    served: list[Token] = []
    is_dropped = False
    for token in children:
        if token.type == "link_open":
            address = _address(str(token.attrs["href"]), language)
            is_dropped = address is None
            if address is None:
                continue
            token.attrs["href"] = address
        elif token.type == "link_close" and is_dropped:
            is_dropped = False
            continue
        served.append(token)
    return served


def _address(target: str, language: str) -> str | None:
    if target == "../../api.md":
        return reverse("api-docs")
    name = target.removesuffix(".md")
    if name not in pages(language):
        return None
    return reverse("guide") if name == CONTENTS else reverse("guide-page", kwargs={"name": name})
