"""docs/architecture.md is true to the tree: what it names exists, and it names every package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PARTS = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox")

NAMED = re.compile(rf"`((?:{'|'.join((*PARTS, 'templates', 'tests', 'bench', 'script'))})/[\w./]*)`")


def test_every_folder_and_file_it_names_exists() -> None:
    named = set(NAMED.findall(TEXT))

    assert len(named) > 30
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_it_names_every_package() -> None:
    packages = {path.parent.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("__init__.py")}

    assert {str(one) for one in packages if f"`{one}/`" not in TEXT and f"**{one}**" not in TEXT} == set()


def test_its_layers_are_those_that_are_checked() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["type"] == "layers"]

    assert f"`{' → '.join(layers)}`" in TEXT
