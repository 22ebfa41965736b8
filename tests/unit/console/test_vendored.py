"""The vendored files are the ones the manifest names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("folder", ["static/vendor", "tests/browser/vendor"])
def test_the_copies_are_those_of_the_manifest(folder: str) -> None:
    manifest = json.loads((ROOT / folder / "manifest.json").read_text(encoding="utf-8"))

    listed = {entry["file"]: entry["sha256"] for entry in manifest}
    found = {
        f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / folder).iterdir()
        if path.name != "manifest.json"
    }

    assert found == listed


def test_every_icon_a_template_or_mark_names_is_in_the_sprite() -> None:
    import re

    sprite = (ROOT / "static/vendor/icons.svg").read_text(encoding="utf-8")
    sources = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "relayweb/console").glob("*words.py")]
    named = set()
    for source in sources:
        text = source.read_text(encoding="utf-8")
        named |= set(re.findall(r'{% icon "([a-z0-9-]+)" %}|icon="([a-z0-9-]+)"', text))
    icons = {first or second for first, second in named} - {""}

    assert {icon for icon in icons if f'id="{icon}"' not in sprite} == set()
