"""The sandbox's inbox over HTTP: what has arrived, as pages and as JSON.

    /                       the newest mails; ?to= one recipient's, ?before= older ones, ?lang= ja or en
    /inbox.json             the same as a list; ?to=, ?limit= (100, at most 1000), ?before=
    /mails/<id>/            one mail; /mails/<id>/raw its bytes, /mails/<id>/html its HTML part for a closed frame
    /mailboxes/             the mailboxes and what they do; /mailboxes.json as `python -m sandbox mailboxes`

Mails are hostile input: everything is escaped, nothing is loaded from elsewhere, no script runs. Files and signatures
are read in threads, so that the SMTP hosts in the same process go on meanwhile.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from sandbox import dkim, mail_view
from sandbox.ledger import read_newest
from sandbox.scenarios import Behaviour, mailboxes
from sandbox.store import FolderStore
from sandbox.texts import choose_language, text
from sandbox.zones import Zones

_STYLE_FILE = Path(__file__).with_name("inbox.css")
_MAIL_ID = re.compile(r"[0-9a-f]{14}-[a-z2-7]{8}\Z")
_ROWS = 50
_JSON_ROWS = 100
_MOST_JSON_ROWS = 1000
_CHECKED_IN_LISTS_BYTES = 2 * 1024 * 1024
_REMEMBERED_VERDICTS = 5000

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_FRAME_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Row:
    """A ledger entry with what its file says. `verdict` None: too large to be checked in a list."""

    entry: dict[str, Any]
    summary: mail_view.Summary
    verdict: dkim.DkimVerdict | None


class InboxPage:
    """The HTTP server of the sandbox."""

    def __init__(self, store: FolderStore, zones: Zones, behaviours: Sequence[Behaviour]) -> None:
        self._store = store
        self._zones = zones
        self._behaviours = behaviours
        self._verdicts: OrderedDict[tuple[str, int], dkim.DkimVerdict] = OrderedDict()
        self._runner: web.AppRunner | None = None
        self._is_local = True

    async def start(self, host: str, port: int) -> None:
        """Listen on one more address. Raises `OSError` when it cannot be bound."""
        self._is_local = self._is_local and _is_loopback(host)
        if self._runner is None:
            self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
            await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/", self._list)
        application.router.add_get("/inbox.json", self._list_json)
        application.router.add_get("/mails/{id}/", self._mail)
        application.router.add_get("/mails/{id}/raw", self._raw)
        application.router.add_get("/mails/{id}/html", self._html)
        application.router.add_get("/mailboxes/", self._mailboxes)
        application.router.add_get("/mailboxes.json", self._mailboxes_json)
        application.router.add_get("/inbox.css", self._style)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # A page on the Internet can give its name a loopback address; such a visitor sends its own name as the host.
        if self._is_local and not _is_local_name(request.host):
            return web.Response(status=421, text="This inbox is for local visitors.\n", headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPNotFound:
            page = _Page(request)
            response = page.response(
                "not_found", [f'<p><a href="{page.link("/")}">{page.say("back")}</a></p>'], status=404
            )
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.reason + "\n")
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY)
        return response

    # --- pages

    async def _list(self, request: web.Request) -> web.StreamResponse:
        page = _Page(request)
        recipient = request.query.get("to", "").strip()
        before = _number(request.query.get("before"))
        rows, older = await asyncio.to_thread(self._read_rows, recipient, before, _ROWS)
        parts = [f'<p class="answer">{page.say("answer")}</p>', page.filter_form(recipient)]
        if rows:
            parts.append(page.table(rows))
        elif recipient:
            parts.append(f'<div class="empty"><p>{page.say("empty_filter")}</p></div>')
        else:
            link = f'<a href="{page.link("/mailboxes/")}">{page.say("mailboxes")}</a>'
            parts.append(f'<div class="empty"><p>{page.say("empty")}</p><p>{page.say("empty_next")}</p>{link}</div>')
        parts.append(page.paging(recipient, before, older))
        return page.response("title", parts)

    async def _mail(self, request: web.Request) -> web.StreamResponse:
        page = _Page(request)
        entry = await self._entry(request)
        row, content = await asyncio.to_thread(self._read_mail, entry)
        if content is None or row is None:
            return page.response("file_gone", [page.envelope(entry, None)], status=404)
        mail = await asyncio.to_thread(mail_view.view, content)
        return page.mail(row, mail)

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        entry = await self._entry(request)
        file = self._file(entry)
        if file is None or not file.exists():
            raise web.HTTPNotFound
        headers = {
            "Content-Type": "message/rfc822",
            "Content-Disposition": f'attachment; filename="{file.name}"',
        }
        return web.FileResponse(file, headers=headers)

    async def _html(self, request: web.Request) -> web.StreamResponse:
        entry = await self._entry(request)
        _, content = await asyncio.to_thread(self._read_mail, entry)
        html = await asyncio.to_thread(mail_view.html_part, content) if content is not None else None
        if html is None:
            raise web.HTTPNotFound
        return web.Response(
            text=html, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": _FRAME_POLICY}
        )

    async def _mailboxes(self, request: web.Request) -> web.StreamResponse:
        page = _Page(request)
        return page.response("mailboxes", [page.mailbox_table(mailboxes(self._behaviours))])

    async def _style(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_STYLE_FILE, headers={"Cache-Control": "max-age=300"})

    # --- JSON

    async def _list_json(self, request: web.Request) -> web.StreamResponse:
        limit = min(_number(request.query.get("limit")) or _JSON_ROWS, _MOST_JSON_ROWS)
        recipient = request.query.get("to", "").strip()
        before = _number(request.query.get("before"))
        rows, older = await asyncio.to_thread(self._read_rows, recipient, before, limit, check_all=True)
        headers = {"X-Older": str(older)} if older is not None else {}
        return web.json_response([_as_json(row) for row in rows], headers=headers)

    async def _mailboxes_json(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(mailboxes(self._behaviours))

    # --- reading

    async def _entry(self, request: web.Request) -> dict[str, Any]:
        mail_id = request.match_info["id"]
        if not _MAIL_ID.match(mail_id):
            raise web.HTTPNotFound
        found = await asyncio.to_thread(read_newest, self._store.ledger_file, limit=1, mail_id=mail_id)
        if not found.entries:
            raise web.HTTPNotFound
        return found.entries[0]

    def _read_rows(
        self, recipient: str, before: int | None, limit: int, *, check_all: bool = False
    ) -> tuple[list[_Row], int | None]:
        ledger = self._store.ledger_file
        found = read_newest(ledger, limit=limit, before=before, recipient=recipient or None)
        return [self._row(entry, check_all=check_all) for entry in found.entries], found.older

    def _row(self, entry: dict[str, Any], *, check_all: bool) -> _Row:
        verdict = None
        if check_all or entry.get("size", 0) <= _CHECKED_IN_LISTS_BYTES:
            row, _ = self._read_mail(entry)
            if row is not None:
                return row
        file = self._file(entry)
        beginning = b""
        if file is not None and file.exists():
            with file.open("rb") as stream:
                beginning = stream.read(mail_view.HEADER_BYTES)
        return _Row(entry, mail_view.summarize(beginning), verdict)

    def _read_mail(self, entry: dict[str, Any]) -> tuple[_Row | None, bytes | None]:
        file = self._file(entry)
        try:
            content = file.read_bytes() if file is not None else None
        except FileNotFoundError:
            content = None
        if content is None:
            return None, None
        return _Row(entry, mail_view.summarize(content), self._verdict(entry["id"], content)), content

    def _verdict(self, mail_id: str, content: bytes) -> dkim.DkimVerdict:
        key = (mail_id, self._zones.version)
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = dkim.verify(content, self._zones.texts)
            if len(self._verdicts) > _REMEMBERED_VERDICTS:
                self._verdicts.popitem(last=False)
        return verdict

    def _file(self, entry: Mapping[str, Any]) -> Path | None:
        """The file of a mail, by its id and not by what the ledger says, so that no line leads out of the folder."""
        if not isinstance(entry["id"], str) or not _MAIL_ID.match(entry["id"]):
            return None
        return self._store.inbox_folder / f"{entry['id']}.eml"


class _Page:
    """Renders in the language of one request. Everything that is not markup of ours passes `escape`."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        asked = request.query.get("lang")
        self.language = choose_language(asked, request.headers.get("Accept-Language", ""))
        self._kept = {"lang": self.language} if asked == self.language else {}

    def say(self, key: str) -> str:
        return escape(text(key, self.language))

    def link(self, path: str, **query: str) -> str:
        values = {**{name: value for name, value in query.items() if value}, **self._kept}
        return escape(f"{path}?{urlencode(values)}" if values else path)

    def response(
        self, title_key: str, parts: Sequence[str], *, title: str | None = None, status: int = 200
    ) -> web.Response:
        name = self.say("title")
        heading = self.say(title_key) if title is None else escape(title)
        # A title stays in the browser's history: no subject, no address.
        own_title = self.say(title_key) if title is None else escape(self._request.match_info["id"])
        document_title = own_title if title_key == "title" and title is None else f"{own_title} · {name}"
        other = "en" if self.language == "ja" else "ja"
        other_query = urlencode({**self._request.query, "lang": other})
        html = (
            f'<!doctype html>\n<html lang="{self.language}">\n<head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{document_title}</title>'
            f'<link rel="stylesheet" href="/inbox.css"><link rel="icon" href="data:,"></head>\n<body>'
            f'<a class="skip" href="#content">{self.say("skip")}</a>\n<header class="page">'
            f'<a class="name" href="{self.link("/")}">{name}</a><a href="{self.link("/mailboxes/")}">'
            f'{self.say("mailboxes")}</a><a class="language" lang="{other}" hreflang="{other}" '
            f'href="{escape(self._request.path)}?{escape(other_query)}">{self.say("other_language")}</a></header>\n'
            f'<main id="content"><h1>{heading}</h1>\n{"".join(parts)}\n</main></body></html>\n'
        )
        return web.Response(text=html, content_type="text/html", charset="utf-8", status=status)

    def filter_form(self, recipient: str) -> str:
        kept = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in self._kept.items())
        clear = f'<a href="{self.link("/")}">{self.say("clear")}</a>' if recipient else ""
        return (
            f'<form class="filter" method="get" action="/" role="search"><label for="to">{self.say("filter")}</label>'
            f'<input id="to" name="to" type="search" value="{escape(recipient)}" autocomplete="off">{kept}'
            f'<button type="submit">{self.say("show")}</button>{clear}</form>'
        )

    def table(self, rows: Sequence[_Row]) -> str:
        heads = "".join(f'<th scope="col">{self.say(key)}</th>' for key in ("time", "recipient", "subject", "dkim"))
        size = f'<th scope="col" class="number">{self.say("size")}</th>'
        body = "".join(self._row(row) for row in rows)
        return f'<table class="cards"><thead><tr>{heads}{size}</tr></thead><tbody>{body}</tbody></table>'

    def _row(self, row: _Row) -> str:
        entry = row.entry
        subject = escape(row.summary.subject) or self.say("no_subject")
        kind = "" if entry["kind"] == "accepted" else f' <span class="note">{self._kind(entry)}</span>'
        return (
            f'<tr><td class="time">{self._time(entry["time"])}</td><td>{_recipients(entry, most=3)}</td>'
            f'<td><a class="subject" href="{self.link("/mails/" + entry["id"] + "/")}">{subject}</a>'
            f'<span class="soft">{escape(row.summary.author)}</span>{kind}</td><td data-label="{self.say("dkim")}">'
            f'{self._badge(row.verdict)}</td><td class="number" data-label="{self.say("size")}">{entry["size"]:,}</td></tr>'
        )

    def paging(self, recipient: str, before: int | None, older: int | None) -> str:
        links = []
        if before is not None:
            links.append(f'<a href="{self.link("/", to=recipient)}">{self.say("newest")}</a>')
        if older is not None:
            links.append(f'<a href="{self.link("/", to=recipient, before=str(older))}">{self.say("older")}</a>')
        return f'<nav class="pages" aria-label="{self.say("older")}">{"".join(links)}</nav>' if links else ""

    def mail(self, row: _Row, mail: mail_view.MailView) -> web.Response:
        path = f"/mails/{row.entry['id']}"
        plain = f'<pre translate="no">{escape(mail.text)}</pre>' if mail.text else f"<p>{self.say('no_text')}</p>"
        parts = [
            f'<p class="answer">{escape(row.summary.author)}</p>',
            f'<p><a href="{path}/raw" download>{self.say("download")}</a></p>',
            self.envelope(row.entry, row.verdict),
            f"<h2>{self.say('text')}</h2>{plain}",
        ]
        if mail.has_html:
            parts.append(
                f'<h2>{self.say("html")}</h2><p class="answer">{self.say("html_note")}</p>'
                f'<iframe sandbox src="{path}/html" title="{self.say("html")}" loading="lazy"></iframe>'
            )
        if len(mail.parts) > 1:
            items = "".join(
                f"<li><code>{escape(part.content_type)}</code> {escape(part.file_name)} "
                f'<span class="soft">{part.size:,}</span></li>'
                for part in mail.parts
            )
            parts.append(f"<h2>{self.say('parts')}</h2><ul>{items}</ul>")
        parts.append(f'<h2>{self.say("header")}</h2><pre class="header" translate="no">{escape(mail.header)}</pre>')
        return self.response("title", parts, title=row.summary.subject or text("no_subject", self.language))

    def envelope(self, entry: Mapping[str, Any], verdict: dkim.DkimVerdict | None) -> str:
        tls = entry["tls"]
        reverse_path = escape(entry["reverse_path"]) or self.say("null_reverse_path")
        facts = [
            ("time", f'{self._time(entry["time"])} <span class="soft">{escape(entry["time"])}</span>'),
            ("behaviour", f"{escape(entry['behaviour'])}: {self._kind(entry)}"),
            ("reverse_path", reverse_path),
            ("recipient", _recipients(entry, most=1000)),
            ("host", f"{escape(entry['host'])} [{escape(entry['address'])}]"),
            ("peer", f"{escape(entry['ehlo'])} [{escape(entry['peer'])}]"),
            ("tls", f"{escape(tls['version'])} {escape(tls['cipher'])}" if tls else self.say("no_tls")),
            ("size", f"{entry['size']:,}"),
            ("digest", f"<code>{escape(entry['sha256'])}</code>"),
        ]
        if verdict is not None:
            reasons = "".join(f"<br>{escape(_signature_line(signature))}" for signature in verdict.signatures)
            facts.append(("dkim", f"{self._badge(verdict)}{reasons}"))
        rows = "".join(f"<dt>{self.say(key)}</dt><dd>{value}</dd>" for key, value in facts)
        return f"<h2>{self.say('envelope')}</h2><dl>{rows}</dl>"

    def mailbox_table(self, listed: Sequence[Mapping[str, Any]]) -> str:
        heads = "".join(f'<th scope="col">{self.say(key)}</th>' for key in ("address", "does", "expect"))
        rows = "".join(
            f"<tr><td><code>{escape(mailbox['address'])}</code></td><td>{escape(mailbox[self.language])}</td>"
            f"<td><code>{escape(mailbox['expect']['state'])}</code> "
            f"<code>{escape(mailbox['expect']['class'] or '')}</code></td></tr>"
            for mailbox in listed
        )
        return (
            f'<p class="answer">{self.say("mailboxes_answer")}</p><table class="cards"><thead><tr>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )

    def _kind(self, entry: Mapping[str, Any]) -> str:
        return self.say("kind_dropped" if entry["kind"] == "dropped" else "kind_accepted")

    def _badge(self, verdict: dkim.DkimVerdict | None) -> str:
        if verdict is None:
            return f'<span class="soft">{self.say("dkim_unchecked")}</span>'
        mark = {"pass": "✓ ", "fail": "✕ ", "none": ""}[verdict.result]
        return f'<span class="badge {verdict.result}">{mark}{self.say("dkim_" + verdict.result)}</span>'

    def _time(self, stamp: str) -> str:
        moment = datetime.fromisoformat(stamp)
        exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
        local = moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f'<time datetime="{escape(stamp)}" title="{exact}">{local}</time>'


def _signature_line(signature: dkim.SignatureVerdict) -> str:
    return f"d={signature.domain} s={signature.selector} a={signature.algorithm}: {signature.reason}"


def _recipients(entry: Mapping[str, Any], *, most: int) -> str:
    shown = "<br>".join(escape(recipient) for recipient in entry["recipients"][:most])
    left = len(entry["recipients"]) - most
    return f"{shown}<br>+ {left:,}" if left > 0 else shown


def _as_json(row: _Row) -> dict[str, Any]:
    verdict = row.verdict
    checked = None
    if verdict is not None:
        signatures = [
            {"domain": one.domain, "selector": one.selector, "algorithm": one.algorithm, "passes": one.passes,
             "reason": one.reason}
            for one in verdict.signatures
        ]  # fmt: skip
        checked = {"result": verdict.result, "reason": verdict.reason, "signatures": signatures}
    return {
        **row.entry,
        "subject": row.summary.subject,
        "from": row.summary.author,
        "message_id_field": row.summary.message_id,
        "dkim": checked,
        "page": f"/mails/{row.entry['id']}/",
    }


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdecimal() and len(value) < 19 else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local_name(host_and_port: str) -> bool:
    """An IP address, or a name that no public DNS can hold."""
    host = re.sub(r":\d+\Z", "", host_and_port).strip("[]").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".test"))
    return True
