"""What is built is complete, and knows its version from one place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from delivery.version import VERSION
from relayweb.commandline.main import main

ROOT = Path(__file__).resolve().parents[3]
CODE = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox")


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"relay {VERSION}\n"
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "delivery.version.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_every_file_beside_the_code_goes_into_a_wheel() -> None:
    """setup.py names the kinds of files that are taken along, and folders are packages."""
    taken = set(re.findall(r'"\*(\.[a-z]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))) | {".py", ".pyc"}
    left_behind = []
    for folder in CODE:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and (path.suffix not in taken or not path.with_name("__init__.py").exists()):
                left_behind += [] if path.parent.name == "__pycache__" else [str(path.relative_to(ROOT))]

    assert left_behind == []
