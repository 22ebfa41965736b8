"""README.md and README.ja.md lead to the same things, with the same commands; their pictures are there and small."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
JAPANESE = (ROOT / "README.ja.md").read_text(encoding="utf-8")

CODE = re.compile(r"^```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r" +# .*")
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)\s]+)\)")
MOST_BYTES = 200_000


def _linked(text: str) -> set[str]:
    return set(LINK.findall(text)) - {"README.md", "README.ja.md"}


def _commands(text: str) -> list[str]:
    return [COMMENT.sub("", block) for block in CODE.findall(text)]


def test_both_have_the_same_parts_links_and_commands() -> None:
    assert HEADING.findall(ENGLISH) == HEADING.findall(JAPANESE)
    assert _linked(ENGLISH) == _linked(JAPANESE)
    assert _commands(ENGLISH) == _commands(JAPANESE)


def test_links_and_pictures_are_there() -> None:
    targets = {target for text in (ENGLISH, JAPANESE) for target in (*LINK.findall(text), *PICTURE.findall(text))}

    assert {target for target in targets if "://" not in target and not (ROOT / target).exists()} == set()


def test_the_pictures_are_those_of_the_script_and_small() -> None:
    shown = {*PICTURE.findall(ENGLISH), *PICTURE.findall(JAPANESE)}
    made = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "images").glob("*.png")}

    assert shown == made
    assert {name for name in made if (ROOT / name).stat().st_size > MOST_BYTES} == set()
