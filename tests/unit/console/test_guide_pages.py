"""The guide's pages: for everybody, in the reader's language, without a database."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from relayweb.guide import pages


@pytest.mark.parametrize(("language", "title"), [("en", "Reading a bounce"), ("ja", "不達の読み方")])
def test_it_speaks_the_readers_language(language: str, title: str) -> None:
    answer = Client(headers={"accept-language": language}).get("/guide/reading-a-bounce/")

    assert answer.status_code == 200
    assert f"<h1>{title}</h1>" in answer.content.decode()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_link_leads_to_a_page_that_is_served(language: str) -> None:
    client = Client(headers={"accept-language": language})
    known = {
        reverse("guide"),
        reverse("api-docs"),
        *(reverse("guide-page", kwargs={"name": name}) for name in pages(language)),
    }

    for name in pages(language):
        article = re.search(r"<article>.*</article>", client.get(f"/guide/{name}/").content.decode(), re.DOTALL)
        assert article
        assert set(re.findall(r'href="([^"]+)"', article[0])) - known == set()


@pytest.mark.parametrize("name", ["nothing", "../en/README", "README.md"])
def test_nothing_else_is_read(name: str) -> None:
    assert Client().get(f"/guide/{name}/").status_code == 404
