"""Compiled catalogues follow their sources."""

from __future__ import annotations

import gettext
import os
from pathlib import Path

import pytest

from relayweb.processes.catalogues import CatalogueError, compile_outdated, outdated

PO = """msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"

msgid "Delivered"
msgstr "相手サーバー受理"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "locale" / "ja" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "django.po").write_text(PO, encoding="utf-8")
    return folder / "django.po"


def test_a_catalogue_is_compiled_once(source: Path, tmp_path: Path) -> None:
    assert compile_outdated(tmp_path) == [source]
    assert compile_outdated(tmp_path) == []

    with source.with_suffix(".mo").open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("Delivered") == "相手サーバー受理"


def test_a_newer_source_is_compiled_again(source: Path, tmp_path: Path) -> None:
    compile_outdated(tmp_path)

    later = source.stat().st_mtime + 10
    os.utime(source, (later, later))

    assert outdated(tmp_path) == [source]


def test_a_broken_catalogue_is_named(source: Path, tmp_path: Path) -> None:
    source.write_text('msgid "a"\nnonsense\n', encoding="utf-8")

    with pytest.raises(CatalogueError, match=r"django\.po cannot be compiled"):
        compile_outdated(tmp_path)
