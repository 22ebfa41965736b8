#!/usr/bin/env python3
"""The translation catalogues: script/catalogues.py update | check

`update` collects every marked string of the code and the templates into locale/<language>/LC_MESSAGES/django.po; `check`
(part of script/check) fails when a string is missing, untranslated, fuzzy or has other placeholders than its original. Both
use Babel and Django's own reader of templates, so that neither needs gettext's tools.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
# English is the language of the originals: its catalogue would repeat them.
LANGUAGES = ("ja",)
CODE = ("accounts", "delivery", "relayweb", "smtpgate")
TEMPLATES = ("templates",)
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
_BRACE = re.compile(r"\{[^{}\s]*\}|%\([^)]+\)[sd]|%[sd]")


def sources() -> Iterator[Path]:
    for folder in CODE:
        yield from sorted(path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)
    for folder in TEMPLATES:
        yield from sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in {".html", ".txt"})


def python_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    # What surrounds the calls is blanked out by Django; indentation would only confuse the tokeniser.
    return "\n".join(line.strip() for line in templatize(text, origin=str(path)).splitlines())


def extract() -> Catalog:
    found = Catalog(charset="utf-8")
    for path in sources():
        code = python_of(path)
        for line, function, arguments, comments in extract_python(
            io.BytesIO(code.encode()), list(KEYWORDS), ["Translators:"], {"encoding": "utf-8"}
        ):
            context, identifier = _message_of(function, arguments)
            if identifier:
                found.add(
                    identifier,
                    context=context,
                    locations=[(path.relative_to(ROOT).as_posix(), line)],
                    auto_comments=comments,
                    flags=_flags(identifier),
                )
    return found


def _message_of(function: str, arguments: object) -> tuple[str | None, str | tuple[str, str] | None]:
    given = list(arguments) if isinstance(arguments, tuple | list) else [arguments]
    context = None
    for index, place in enumerate(KEYWORDS[function] or (1,)):
        if isinstance(place, tuple):
            context = given[index] if index < len(given) else None
    texts = given[1:] if context is not None else given
    if "ngettext" in function or "npgettext" in function:
        if len(texts) >= 2 and isinstance(texts[0], str) and isinstance(texts[1], str):
            return context, (texts[0], texts[1])
        return None, None
    return context, texts[0] if texts and isinstance(texts[0], str) else None


def _flags(identifier: str | tuple[str, str]) -> tuple[str, ...]:
    text = identifier if isinstance(identifier, str) else identifier[0]
    return ("python-format",) if re.search(r"%\(\w+\)[sd]|%[sd]", text) else ()


def file_of(language: str) -> Path:
    return ROOT / "locale" / language / "LC_MESSAGES" / "django.po"


def read(language: str) -> Catalog:
    path = file_of(language)
    if not path.exists():
        return Catalog(locale=language, project="relayweb", charset="utf-8")
    with path.open("rb") as file:
        return read_po(file, locale=language)


def update() -> int:
    template = extract()
    for language in LANGUAGES:
        catalogue = read(language)
        catalogue.update(template, no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        path = file_of(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            # Line numbers would make every change of the code one of the catalogue.
            write_po(file, catalogue, width=120, sort_output=True, omit_header=False, include_lineno=False)
        missing = sum(1 for message in catalogue if message.id and not _is_translated(message))
        print(f"{path.relative_to(ROOT)}: {len(catalogue)} strings, {missing} to translate")
    return 0


def check() -> int:
    template = extract()
    problems = []
    for language in LANGUAGES:
        catalogue = read(language)
        for wanted in template:
            if not wanted.id:
                continue
            message = catalogue.get(wanted.id if isinstance(wanted.id, str) else wanted.id[0], wanted.context)
            where = f"{wanted.locations[0][0]}:{wanted.locations[0][1]}"
            if message is None:
                problems.append(f"{language}: not in the catalogue ({where}): {wanted.id!r}")
            elif message.fuzzy:
                problems.append(f"{language}: fuzzy ({where}): {wanted.id!r}")
            elif not _is_translated(message):
                problems.append(f"{language}: not translated ({where}): {wanted.id!r}")
            else:
                problems += [f"{language}: {problem} ({where})" for problem in _differences(message)]
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} strings need a translator. script/catalogues.py update collects them.")
    return 1 if problems else 0


def _is_translated(message: Message) -> bool:
    texts = message.string if isinstance(message.string, tuple | list) else [message.string]
    return all(texts) and bool(texts)


def _differences(message: Message) -> Iterator[str]:
    """Placeholders that only one side has; a plural form may leave a number out."""
    originals = message.id if isinstance(message.id, tuple | list) else [message.id]
    texts = message.string if isinstance(message.string, tuple | list) else [message.string]
    wanted = set().union(*(_BRACE.findall(text) for text in originals))
    for text in texts:
        found = set(_BRACE.findall(text))
        if found - wanted or (len(originals) == 1 and wanted - found):
            yield f"placeholders differ: {originals[0]!r} → {text!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("update", "check"))
    if not settings.configured:
        settings.configure()
    return update() if parser.parse_args().what == "update" else check()


if __name__ == "__main__":
    sys.exit(main())
