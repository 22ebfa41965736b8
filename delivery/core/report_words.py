"""The wording of reports as compiled patterns; the words are data, in `report_words.toml` beside this file."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files


@cache
def _lists() -> dict[str, list[str]]:
    return tomllib.loads(files(__package__).joinpath("report_words.toml").read_text("utf-8"))


def alternatives(name: str) -> str:
    """The words of a list as one expression, to be put into a larger one."""
    return f"(?:{'|'.join(_lists()[name])})"


def pattern(name: str) -> re.Pattern[str]:
    """The words of a list, in any case."""
    return re.compile(alternatives(name), re.IGNORECASE)
