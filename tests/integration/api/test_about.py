"""What the API says of itself, how much one may ask, and what it says while the database is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as present
from django.db import connection
from django.test import Client
from django.utils import translation
from django.utils.html import escape
from django.utils.translation import gettext

from relayweb.api import documentation
from relayweb.processes.catalogues import compile_outdated
from tests.integration.api.conftest import IssueKey, Program
from tests.integration.api.test_managing import _ok, _refused
from tests.integration.api.test_sending import URL


def test_the_document_is_public_and_made_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    documentation.document.cache_clear()

    document = _ok(Client().get("/api/v1/schema"))

    assert capsys.readouterr().err == ""
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": present.PUBLIC_URL}]
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(names) == len(set(names))
    assert {one["x-scope"] for methods in document["paths"].values() for one in methods.values()} == {
        "send", "read", "manage", "members", "operate",
    }  # fmt: skip


def test_nothing_is_changed_where_it_is_described() -> None:
    strict = Client(enforce_csrf_checks=True)

    assert {strict.generic("PUT", f"/api/v1/{name}").status_code for name in ("schema", "docs")} == {405}


@pytest.mark.parametrize(("language", "words"), [("en", "Needs the scope"), ("ja", "が必要です")])
def test_the_page_shows_every_operation_in_the_readers_language(language: str, words: str) -> None:
    compile_outdated()

    answer = Client().get("/api/v1/docs", headers={"Accept-Language": language})

    text = answer.content.decode()
    document = documentation.document()
    for path, methods in document["paths"].items():
        assert path.replace("'", "&#x27;") in text
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in text
            with translation.override(language):
                assert escape(gettext(operation["summary"])) in text
            assert language == "en" or escape(operation["summary"]) not in text
    assert words in text
    assert f'<html lang="{language}"' in text
    # The strict policy: nothing inline.
    assert "'unsafe" not in answer["Content-Security-Policy"]
    assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son[a-z]+=", text)


def test_limits_of_the_key_and_of_the_tenant_are_told(acme: Program, issue_key: IssueKey, settings: Any) -> None:
    settings.API_REQUESTS_PER_MINUTE, settings.API_TENANT_REQUESTS_PER_MINUTE = 3, 4
    other = issue_key()

    answers = [program.get("/api/v1/tenant") for program in (acme, acme, acme, acme, other)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0]["RateLimit-Policy"] == '"key";q=3;w=60, "tenant";q=4;w=60'
    assert re.fullmatch(r'"key";r=2;t=\d+, "tenant";r=3;t=\d+', answers[0]["RateLimit"])
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    _refused(answers[4], 429, "too_many_requests")
    assert 1 <= int(answers[4]["Retry-After"]) <= 60


@pytest.fixture
def database_away(acme: Program) -> Iterator[None]:
    """Django's own connections lead nowhere; who asks is still remembered."""
    acme.get("/api/v1/tenant")
    there = connection.settings_dict["HOST"]
    connection.close()
    connection.settings_dict["HOST"] = "/nonexistent"
    yield
    connection.close()
    connection.settings_dict["HOST"] = there


def test_a_database_that_is_away_is_said_as_that(acme: Program, database_away: None) -> None:
    for method, path, body in (
        ("GET", URL, None),
        ("GET", "/api/v1/statistics", None),
        ("POST", "/api/v1/domains", {"name": "news.acme.test"}),
        ("POST", "/api/v1/suppressions/bulk", {"addresses": ["a@b.test"]}),
    ):
        answer = acme.call(method, path, body)

        _refused(answer, 503, "temporarily_unavailable")
        assert answer["Retry-After"] == "10"
        assert not re.search(r"psycopg|socket|nonexistent|Error|select", answer.content.decode(), re.IGNORECASE)


# Of the big list of naughty strings: what has broken parsers, pages, shells, spreadsheets and databases.
NAUGHTY = (
    "", "undefined", "null", "1;DROP TABLE users", "' OR 1=1 -- 1", "=cmd|' /C calc'!A0", "%s%x%n", "{{7*7}}",
    "../../etc/passwd", "<svg/onload=alert(1)>", "¯\\_(ツ)_/¯", "田中さんにあげて下さい", "\U0001f468\u200d\U0001f469",
    "\u202atest\u202a", "T\u0301\u0351o\u035e", "\ufdfa", "\u0130", "\u200b", "\ufeff", "\u202edrawkcab", "\ud800",
    "a\x00b", "a\r\nBcc: x@y.test", "a\u0085b", "a\u2028b", "\x1b[31m", "x" * 5000, "NaN", "1e999", "-1", "0x7f",
    "$(touch /tmp/x)",
)  # fmt: skip
BREAKING = ("\x00", "\n", "\u0085", "\u2028", "\x1b", "\ud800")


def test_naughty_strings_break_nothing_in_any_field(acme: Program) -> None:
    fields: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/api/v1/domains", {}, "name"),
        ("POST", "/api/v1/credentials", {"kind": "smtp"}, "name"),
        ("POST", "/api/v1/credentials", {"kind": "network"}, "network"),
        ("POST", "/api/v1/credentials", {"kind": "api"}, "only_domain"),
        ("POST", "/api/v1/suppressions", {}, "address"),
        ("POST", "/api/v1/suppressions", {"address": "a@b.test"}, "note"),
        ("PUT", "/api/v1/routes/far.test", {}, "host"),
        ("PUT", "/api/v1/routes/far.test", {"host": "mx.partner.example", "tls": "required"}, "username"),
    ]
    for text in NAUGHTY:
        for method, path, body, field in fields:
            answer = acme.call(method, path, {**body, field: text})
            assert answer.status_code in {200, 201, 400, 422}, (path, field, text, answer.content)
            if any(one in text for one in BREAKING):
                assert answer.status_code == 400, (path, field, text)
        if "\ud800" in text:
            continue  # no address can hold it
        for name in ("recipient", "state", "since", "cursor"):
            assert acme.client.get(
                "/api/v1/recipients", {name: text}, headers={"Authorization": f"Bearer {acme.key}"}
            ).status_code in {200, 400}, (name, text)
